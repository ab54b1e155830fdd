"""Sums that Redis lost or never had come from the ledger: once, and exactly."""

from __future__ import annotations

import asyncio

import pytest
import redis

from tenants.admission import Admission, Spent, SpentQuery
from tenants.errors import AdmissionUnavailable, LimitExceeded
from tenants.principal import Limits
from tenants.redis_link import RedisLink
from tests.tenants.factory import MODEL, Ledger, make_principal, state_of
from tests.tenants.test_admission import admit, refusal, settle

QUOTA = Limits(monthly_tokens=100)
BUDGET = Limits(monthly_budget_micros=1_000)


@pytest.mark.parametrize(
    ("caller", "name"),
    [
        (make_principal(QUOTA), "monthly_tokens"),
        (make_principal(project=BUDGET), "monthly_budget"),
        (make_principal(key=BUDGET), "monthly_budget"),
        (make_principal(organization_models={MODEL: QUOTA}), "monthly_tokens"),
        (make_principal(credit=5_000), "prepaid_credit"),
    ],
)
async def test_a_redis_that_lost_everything_still_knows_what_was_spent(
    admission: Admission, ledger: Ledger, valkey: redis.Redis, caller: object, name: str
) -> None:
    ledger.spent = Spent(85, 950, 4_950)
    await admit(admission, caller, most=10, micros=50)  # type: ignore[arg-type]
    valkey.flushdb()

    await admit(admission, caller, most=10, micros=50)  # type: ignore[arg-type]
    assert (await refusal(admission, caller, most=10, micros=50)).limit == name
    assert len(ledger.asked) == 2


async def test_each_subject_is_asked_for_by_what_it_is(
    admission: Admission, ledger: Ledger
) -> None:
    caller = make_principal(
        QUOTA, QUOTA, project=QUOTA, organization_models={MODEL: QUOTA},
        project_models={MODEL: QUOTA}, credit=10_000,
    )  # fmt: skip
    await admit(admission, caller)

    asked = {(q.project, q.api_key, q.model, q.needs_life) for q in ledger.asked}
    assert {q.organization for q in ledger.asked} == {5}
    assert asked == {
        (None, None, None, True), (3, None, None, False), (None, 7, None, False),
        (None, None, MODEL, False), (3, None, MODEL, False),
    }  # fmt: skip


async def test_rates_alone_ask_nobody(admission: Admission, ledger: Ledger) -> None:
    await admit(admission, Limits(requests_per_day=5, tokens_per_day=500, concurrent_requests=3))
    assert ledger.asked == []


async def test_many_first_requests_at_once_read_once_and_seed_once(
    admission: Admission, link: RedisLink, ledger: Ledger, valkey: redis.Redis
) -> None:
    """Two gateways, and what they seed is not added up."""
    ledger.spent = Spent(40, 0, 0)
    other = Admission(link, hold_expiry_s=900, read_spent=ledger)
    outcomes = await asyncio.gather(
        *(admit(each, QUOTA, most=6) for each in [admission, other] * 10), return_exceptions=True
    )

    assert len(ledger.asked) == 2
    assert sum(not isinstance(outcome, LimitExceeded) for outcome in outcomes) == 10
    state = state_of(valkey)
    assert (state.tokens, state.tokens_held) == (40, 60)


async def test_what_is_settled_while_a_sum_is_read_is_in_it_exactly_once(
    link: RedisLink, valkey: redis.Redis
) -> None:
    """A limit is set while a request runs, which ends between the reading and the seed."""
    running: list[str] = []
    reads = []

    async def read(query: SpentQuery) -> Spent:
        reads.append(query)
        spent = Spent(30 if len(reads) > 1 else 0, 0, 0)
        if running:
            await settle(admission, running.pop(), 30)
        return spent

    admission = Admission(link, hold_expiry_s=900, read_spent=read)
    running.append((await admit(admission, Limits(requests_per_minute=10))).request_id)
    await admit(admission, Limits(requests_per_minute=10, monthly_tokens=100), most=10)

    assert len(reads) == 2
    assert (state_of(valkey).tokens, state_of(valkey).tokens_held) == (30, 10)


async def test_what_runs_when_a_limit_is_set_is_counted_when_it_ends(
    admission: Admission, valkey: redis.Redis
) -> None:
    before = await admit(admission)  # nobody has any limit yet
    await admit(admission, QUOTA, most=10)
    await settle(admission, before.request_id, 70)

    assert (state_of(valkey).tokens, state_of(valkey).tokens_held) == (70, 10)


async def test_a_sum_that_never_holds_still_admits_nobody(
    link: RedisLink, valkey: redis.Redis
) -> None:
    async def read(_query: SpentQuery) -> Spent:
        await admission.doubt(organization=5, project=3, api_key=7, model=MODEL)
        return Spent(0, 0, 0)

    admission = Admission(link, hold_expiry_s=900, read_spent=read)
    with pytest.raises(AdmissionUnavailable):
        await admit(admission, QUOTA)
    assert valkey.zcard("holds") == 0


async def test_a_request_whose_hold_was_lost_is_counted_by_reading_anew(
    admission: Admission, ledger: Ledger, valkey: redis.Redis
) -> None:
    lost = await admit(admission, QUOTA, most=50)
    valkey.flushdb()
    other = await admit(admission, QUOTA, most=20)
    assert not await settle(admission, lost.request_id, 45, 0, b"report")
    ledger.spent = Spent(45, 0, 0)
    await admission.doubt(organization=5, project=3, api_key=7, model=MODEL)

    await refusal(admission, QUOTA, most=36)
    await admit(admission, QUOTA, most=35)  # 45 used, 20 still held
    await settle(admission, other.request_id, 20)
    assert (state_of(valkey).tokens, state_of(valkey).tokens_held) == (65, 35)


async def test_a_ledger_that_does_not_answer_admits_nobody_who_needs_it(
    link: RedisLink, valkey: redis.Redis
) -> None:
    async def read(_query: SpentQuery) -> Spent:
        raise AdmissionUnavailable("What was spent cannot be read right now.")

    admission = Admission(link, hold_expiry_s=900, read_spent=read)
    for _ in range(2):
        with pytest.raises(AdmissionUnavailable):
            await admit(admission, QUOTA)
    await admit(admission, Limits(requests_per_minute=3))
    assert valkey.zcard("holds") == 1
