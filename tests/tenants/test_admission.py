"""Admission on a real Valkey: what is reserved, what is refused, what is given back."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
import redis

from tenants.admission import Admission, gate
from tenants.admission.limits import months_at
from tenants.errors import AdmissionUnavailable, LimitExceeded
from tenants.principal import NO_LIMITS, Limits, Principal
from tenants.redis_link import RedisLink
from tests.tenants.factory import (
    MODEL,
    Ledger,
    let_pass,
    make_principal,
    redis_ms,
    state_of,
    stored,
    subjects,
)

ALL_LIMITS = Limits(
    requests_per_minute=60,
    requests_per_hour=1_000,
    requests_per_day=5_000,
    tokens_per_minute=6_000,
    tokens_per_day=100_000,
    concurrent_requests=5,
    monthly_tokens=10_000,
    monthly_budget_micros=50_000,
)
_serial = iter(range(10**9))


async def admit(
    admission: Admission,
    organization: Limits | Principal = NO_LIMITS,
    key: Limits = NO_LIMITS,
    *,
    expected: int = 10,
    most: int = 20,
    micros: int = 100,
) -> gate.Hold:
    caller = organization
    return await admission.admit(
        caller if isinstance(caller, Principal) else make_principal(caller, key),
        f"req-{next(_serial)}",
        model=MODEL,
        expected_tokens=expected,
        most_tokens=most,
        most_cost_micros=micros,
        note=b"note",
    )


async def settle(
    admission: Admission, request_id: str, tokens: int = 0, micros: int = 0, report: bytes = b""
) -> bool:
    return await admission.settle(request_id, used_tokens=tokens, cost_micros=micros, report=report)


async def refusal(admission: Admission, *limits: Any, **costs: int) -> LimitExceeded:
    with pytest.raises(LimitExceeded) as refused:
        await admit(admission, *limits, **costs)
    assert refused.value.status == 429
    return refused.value


async def test_without_limits_everything_is_admitted_and_only_held(
    admission: Admission, valkey: redis.Redis
) -> None:
    for _ in range(20):
        assert (await admit(admission)).headers == []

    assert not subjects(valkey)
    assert valkey.zcard("holds") == 20


# --- Each limit, each subject ---------------------------------------------------------------

THREE_OF = [
    (Limits(requests_per_minute=3), "requests_per_minute", "rate_limit_exceeded"),
    (Limits(requests_per_hour=3), "requests_per_hour", "rate_limit_exceeded"),
    (Limits(requests_per_day=3), "requests_per_day", "rate_limit_exceeded"),
    (Limits(tokens_per_minute=30), "tokens_per_minute", "rate_limit_exceeded"),
    (Limits(tokens_per_day=30), "tokens_per_day", "rate_limit_exceeded"),
    (Limits(concurrent_requests=3), "concurrent_requests", "rate_limit_exceeded"),
    (Limits(monthly_tokens=60), "monthly_tokens", "insufficient_quota"),
    (Limits(monthly_budget_micros=300), "monthly_budget", "insufficient_quota"),
]


@pytest.mark.parametrize(("limits", "name", "code"), THREE_OF)
@pytest.mark.parametrize(
    ("place", "subject", "model"),
    [
        ("organization", "organization", None),
        ("project", "project", None),
        ("key", "API key", None),
        ("organization_models", "organization", MODEL),
        ("project_models", "project", MODEL),
    ],
)
async def test_each_limit_alone_admits_three_and_names_itself_to_the_fourth(
    admission: Admission,
    limits: Limits,
    name: str,
    code: str,
    place: str,
    subject: str,
    model: str | None,
) -> None:
    by_place: dict[str, Any] = {place: {MODEL: limits} if model else limits}
    caller = make_principal(**by_place)
    for _ in range(3):
        await admit(admission, caller)

    refused = await refusal(admission, caller)
    assert (refused.limit, refused.code) == (name, code)
    assert (refused.subject, refused.model) == (subject, model)
    assert subject in refused.message
    assert ("for the model `tiny`" in refused.message) == (model is not None)


async def test_prepaid_credit_admits_three_and_asks_for_more_money(admission: Admission) -> None:
    caller = make_principal(credit=300)
    for _ in range(3):
        await admit(admission, caller)

    refused = await refusal(admission, caller)
    assert (refused.limit, refused.code) == ("prepaid_credit", "insufficient_quota")
    assert refused.retry_after_s is None
    assert refused.message == (
        "This request may cost up to $0.0001, more than is left of the organization's $0.0003 "
        "of prepaid credit. Add credit in the portal."
    )


async def test_a_models_limits_count_its_own_requests_only(admission: Admission) -> None:
    caller = make_principal(
        organization_models={"other": Limits(requests_per_minute=0), MODEL: ALL_LIMITS},
        project_models={"other": Limits(requests_per_minute=0)},
    )
    await admit(admission, caller)


async def test_two_keys_of_an_organization_share_its_limit_and_not_their_own(
    admission: Admission,
) -> None:
    own, shared = Limits(requests_per_minute=1), Limits(requests_per_minute=2)
    await admit(admission, shared, own)
    assert "API key" in (await refusal(admission, shared, own)).message

    await admit(admission, shared)  # another key, which has no limit of its own
    assert "organization" in (await refusal(admission, shared)).message


@pytest.mark.parametrize(
    "tight",
    [
        Limits(requests_per_minute=1),
        Limits(requests_per_day=1),
        Limits(tokens_per_minute=10),
        Limits(concurrent_requests=1),
        Limits(monthly_tokens=20),
        Limits(monthly_budget_micros=100),
    ],
)
@pytest.mark.parametrize("tight_comes_last", [True, False])
async def test_a_refusal_reserves_nothing_on_any_limit(
    admission: Admission, valkey: redis.Redis, tight: Limits, tight_comes_last: bool
) -> None:
    both = (ALL_LIMITS, tight) if tight_comes_last else (tight, ALL_LIMITS)
    await admit(admission, *both)
    before = stored(valkey)
    for _ in range(5):
        await refusal(admission, *both)

    assert stored(valkey) == before


async def test_the_limit_that_takes_longest_is_the_one_that_is_named(
    admission: Admission,
) -> None:
    slow_and_quick = Limits(requests_per_minute=1, tokens_per_minute=600)
    await admit(admission, slow_and_quick, expected=600)

    refused = await refusal(admission, slow_and_quick, expected=10)  # 60 s against 1 s
    assert refused.limit == "requests_per_minute"
    assert 55 < (refused.retry_after_s or 0) <= 60


async def test_a_limit_of_nothing_refuses_everything_for_ever(admission: Admission) -> None:
    for limits in (
        Limits(requests_per_minute=0),
        Limits(requests_per_day=0),
        Limits(tokens_per_minute=0),
        Limits(tokens_per_day=0),
        Limits(concurrent_requests=0),
        Limits(monthly_tokens=0),
        Limits(monthly_budget_micros=0),
    ):
        refused = await refusal(admission, limits, expected=1, most=1, micros=1)
        assert refused.retry_after_s is None
        assert dict(refused.headers).get(b"x-ratelimit-remaining-requests", b"0") == b"0"


async def test_what_costs_nothing_is_admitted_without_money(admission: Admission) -> None:
    caller = make_principal(Limits(monthly_budget_micros=0), credit=0)
    await admit(admission, caller, micros=0)
    await refusal(admission, caller, micros=1)


@pytest.mark.parametrize(
    ("limits", "name", "words"),
    [
        (Limits(tokens_per_minute=100, requests_per_minute=1), "tokens_per_minute", "101 tokens"),
        (Limits(monthly_tokens=100, requests_per_minute=1), "monthly_tokens", "101 tokens"),
        (Limits(monthly_budget_micros=100, requests_per_minute=1), "monthly_budget", "$0.000101"),
    ],
)
async def test_a_request_larger_than_the_limit_is_told_to_shrink_and_not_to_wait(
    admission: Admission, limits: Limits, name: str, words: str
) -> None:
    # So that waiting would help the other.
    await admit(admission, limits, expected=1, most=1, micros=1)
    refused = await refusal(admission, limits, expected=101, most=101, micros=101)

    assert refused.limit == name
    assert refused.retry_after_s is None
    assert words in refused.message and "Lower max_tokens" in refused.message


# --- When to come again, and the headers ------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "fill"),
    [
        (Limits(requests_per_minute=60), 60),
        (Limits(tokens_per_minute=600), 60),
        (Limits(requests_per_hour=3_600, tokens_per_minute=60_000), 3_600),
        (Limits(tokens_per_day=864_000), 1),
    ],
)
async def test_retry_after_is_exact(
    admission: Admission, valkey: redis.Redis, limits: Limits, fill: int
) -> None:
    """Who waits for so long is admitted; who waits 50 ms less is not."""
    expected = 864_000 if fill == 1 else 10
    await asyncio.gather(*(admit(admission, limits, expected=expected) for _ in range(fill)))
    for _ in range(50):  # until a try is not interrupted by whatever else this machine does
        refused = await refusal(admission, limits, expected=10)
        wait_ms, asked_at = (refused.retry_after_s or 0) * 1000, redis_ms(valkey)
        assert 0 < wait_ms <= 1010
        let_pass(valkey, wait_ms - 50)
        try:
            await admit(admission, limits, expected=10)
        except LimitExceeded:
            let_pass(valkey, 50)
            await admit(admission, limits, expected=10)
            return
        assert redis_ms(valkey) - asked_at > 20, "admitted 50 ms early"
    pytest.skip("this machine never gave 20 ms in a row")


async def test_a_months_quota_comes_again_with_the_next_month(admission: Admission) -> None:
    limits = Limits(monthly_tokens=100, monthly_budget_micros=100)
    await admit(admission, limits, most=100, micros=1)
    refused = await refusal(admission, limits)

    left_s = months_at(time.time()).next_begins / 1000 - time.time()
    assert abs((refused.retry_after_s or 0) - left_s) < 5


async def test_the_headers_tell_what_the_bucket_holds(admission: Admission) -> None:
    limits = Limits(requests_per_minute=60, tokens_per_minute=6_000)
    headers = dict((await admit(admission, limits, expected=1_000)).headers)

    assert headers == {
        b"x-ratelimit-limit-requests": b"60",
        b"x-ratelimit-remaining-requests": b"59",
        b"x-ratelimit-reset-requests": b"1s",  # one request refills in 1 s
        b"x-ratelimit-limit-tokens": b"6000",
        b"x-ratelimit-remaining-tokens": b"5000",
        b"x-ratelimit-reset-tokens": b"10s",
    }


async def test_a_refusals_headers_tell_what_is_left_now(admission: Admission) -> None:
    """Nothing was reserved, so nothing is missing from the limit that had room."""
    limits = Limits(requests_per_minute=60, tokens_per_minute=6_000)
    await admit(admission, limits, expected=5_999)
    headers = dict((await refusal(admission, limits, expected=3_000)).headers)

    assert headers[b"x-ratelimit-remaining-requests"] == b"59"
    assert int(headers[b"x-ratelimit-remaining-tokens"]) < 1_000


@pytest.mark.parametrize("place", ["organization", "project", "key", "organization_models"])
async def test_the_headers_tell_of_the_tightest_of_all_subjects_and_periods(
    admission: Admission, place: str
) -> None:
    tight = Limits(requests_per_day=10, tokens_per_day=500)
    wide = Limits(requests_per_minute=600, tokens_per_minute=9_000)
    by_place: dict[str, Any] = {"organization": wide, "project": wide, "key": wide}
    by_place[place] = {MODEL: tight} if place == "organization_models" else tight
    headers = dict((await admit(admission, make_principal(**by_place))).headers)

    assert headers[b"x-ratelimit-limit-requests"] == b"10"
    assert headers[b"x-ratelimit-remaining-requests"] == b"9"
    assert headers[b"x-ratelimit-reset-requests"] == b"2h24m0s"
    assert headers[b"x-ratelimit-limit-tokens"] == b"500"
    assert headers[b"x-ratelimit-remaining-tokens"] == b"490"


# --- Settling ------------------------------------------------------------------------------


async def test_settling_returns_what_was_not_used(
    admission: Admission, valkey: redis.Redis
) -> None:
    caller = make_principal(ALL_LIMITS, project=ALL_LIMITS, key=ALL_LIMITS, credit=50_000)
    hold = await admit(admission, caller, expected=6_000, most=10_000, micros=50_000)
    await refusal(admission, caller, expected=1, most=1, micros=1)
    assert await settle(admission, hold.request_id, 100, 700, b"report")

    for subject in ("o5", "p3", "k7"):
        state = state_of(valkey, subject)
        assert (state.tokens, state.tokens_held, state.in_flight) == (100, 0, 0)
        assert (state.micros, state.micros_held, state.life_held) == (700, 0, 0)
    assert state_of(valkey, "o5").life == 700
    left = await admit(admission, caller, expected=1, most=1)
    assert dict(left.headers)[b"x-ratelimit-remaining-tokens"] == b"5899"
    # A request was made, whatever it used: that is not given back.
    assert dict(left.headers)[b"x-ratelimit-remaining-requests"] == b"58"


async def test_what_was_used_beyond_the_hold_is_charged(
    admission: Admission, valkey: redis.Redis
) -> None:
    hold = await admit(admission, ALL_LIMITS, expected=10, most=20)
    await settle(admission, hold.request_id, 7_000, 300, b"report")

    assert (state_of(valkey).tokens, state_of(valkey).micros) == (7_000, 300)
    refused = await refusal(admission, ALL_LIMITS, expected=1, most=1)
    assert refused.limit == "tokens_per_minute"
    assert 9 < (refused.retry_after_s or 0) <= 10.02  # 1,000 tokens of debt at 100 a second


async def test_overuse_is_charged_though_the_state_is_lost(
    admission: Admission, valkey: redis.Redis
) -> None:
    limits = Limits(tokens_per_minute=6_000)
    hold = await admit(admission, limits, expected=10)
    valkey.delete("limit:o5")
    await settle(admission, hold.request_id, 3_010, 0, b"report")

    left = await admit(admission, limits, expected=1)
    assert 2_990 <= int(dict(left.headers)[b"x-ratelimit-remaining-tokens"]) <= 3_010


async def test_a_mad_report_locks_nobody_out_for_longer_than_a_period(
    admission: Admission,
) -> None:
    limits = Limits(tokens_per_minute=6_000)
    hold = await admit(admission, limits, expected=10)
    await settle(admission, hold.request_id, 10**18)

    assert 59 < ((await refusal(admission, limits, expected=1)).retry_after_s or 0) < 61


async def test_an_unused_part_never_makes_a_bucket_fuller_than_full(
    admission: Admission, valkey: redis.Redis
) -> None:
    limits = Limits(tokens_per_minute=6_000)
    hold = await admit(admission, limits, expected=3_000)
    let_pass(valkey, 29_000)  # nearly all of it has flowed back by itself
    await settle(admission, hold.request_id, 0)

    await admit(admission, limits, expected=6_000)
    assert (await refusal(admission, limits, expected=1)).limit == "tokens_per_minute"


async def test_settling_twice_gives_back_once_and_reports_twice(
    admission: Admission, valkey: redis.Redis
) -> None:
    """The ledger counts a request id once, so the report may come again."""
    await admit(admission, ALL_LIMITS)
    hold = await admit(admission, ALL_LIMITS)
    assert await settle(admission, hold.request_id, 5, 5, b"report")
    before = {key: value for key, value in stored(valkey).items() if key != b"usage.reports"}
    assert not await settle(admission, hold.request_id, 5, 5, b"report")

    after = stored(valkey)
    assert len(after.pop(b"usage.reports")) == 2  # type: ignore[arg-type]
    assert after == before


async def test_settling_what_was_never_admitted_reports_and_changes_no_limit(
    admission: Admission, valkey: redis.Redis
) -> None:
    assert not await settle(admission, "req-unknown", 500, 500, b"report")

    ((_, fields),) = valkey.xrange("usage.reports")
    assert fields == {b"report": b"report"}
    assert list(stored(valkey)) == [b"usage.reports"]


async def test_a_negative_use_or_cost_counts_as_none(
    admission: Admission, valkey: redis.Redis
) -> None:
    hold = await admit(admission, ALL_LIMITS, expected=-5, most=-5, micros=-5)
    await settle(admission, hold.request_id, -1_000, -1_000)

    state = state_of(valkey)
    assert (state.tokens, state.micros, state.tokens_held, state.micros_held) == (0, 0, 0, 0)
    assert not valkey.exists("usage.reports")


async def test_a_cap_of_45_cents_never_has_60_spent_on_it(admission: Admission) -> None:
    """Checked but not reserved, four requests of 15 cents would pass before the first is paid."""
    cap = Limits(monthly_budget_micros=450_000)
    outcomes = await asyncio.gather(
        *(admit(admission, cap, micros=150_000) for _ in range(20)), return_exceptions=True
    )

    assert sum(isinstance(outcome, gate.Hold) for outcome in outcomes) == 3


# --- Holds ----------------------------------------------------------------------------------


async def test_holds_expire_in_order_and_settled_ones_do_not(
    link: RedisLink, ledger: Ledger
) -> None:
    admission = Admission(link, hold_expiry_s=100, read_spent=ledger)
    now = time.time()
    holds = [await admit(admission, ALL_LIMITS) for _ in range(3)]
    await settle(admission, holds[1].request_id)

    assert await admission.expired_holds(now + 50) == []
    due = await admission.expired_holds(now + 150)
    assert [hold.request_id for hold in due] == [holds[0].request_id, holds[2].request_id]
    assert all(hold.note == b"note" and abs(hold.expired_at - now - 100) < 30 for hold in due)
    assert len(await admission.expired_holds(now + 150, count=1)) == 1


async def test_a_lost_hold_frees_its_place_before_anyone_settles_it(link: RedisLink) -> None:
    """After one lease at the earliest, two at the latest, though no control worker runs."""
    admission = Admission(link, hold_expiry_s=0.2)
    limits = Limits(concurrent_requests=1)
    await admit(admission, limits)
    began = time.monotonic()
    await refusal(admission, limits)
    while True:
        await asyncio.sleep(0.02)
        try:
            await admit(admission, limits)
            break
        except LimitExceeded:
            assert time.monotonic() - began < 1
    assert time.monotonic() - began >= 0.15


async def test_a_hold_settled_after_its_lease_frees_nobody_elses_place(
    link: RedisLink, valkey: redis.Redis
) -> None:
    admission = Admission(link, hold_expiry_s=0.05)
    late = await admit(admission, Limits(concurrent_requests=9))
    await asyncio.sleep(0.15)
    await admit(admission, Limits(concurrent_requests=9))
    await settle(admission, late.request_id)

    assert state_of(valkey).in_flight == 1


async def test_an_index_entry_without_its_hold_is_cleared(
    admission: Admission, valkey: redis.Redis
) -> None:
    hold = await admit(admission)
    valkey.delete(f"held:{hold.request_id}")

    assert await admission.expired_holds(time.time() + 10_000) == []
    assert valkey.zcard("holds") == 0


async def test_a_caller_that_leaves_while_it_is_admitted_holds_nothing(
    admission: Admission, valkey: redis.Redis
) -> None:
    await admit(admission, ALL_LIMITS)  # the scripts are known, the sums seeded
    task = asyncio.create_task(admit(admission, ALL_LIMITS))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await asyncio.sleep(0.1)

    assert state_of(valkey).in_flight == valkey.zcard("holds") == 1


async def test_every_key_but_the_money_that_waits_expires(
    admission: Admission, valkey: redis.Redis
) -> None:
    caller = make_principal(ALL_LIMITS, ALL_LIMITS, project=ALL_LIMITS, credit=10**6)
    holds = [await admit(admission, caller) for _ in range(3)]
    await settle(admission, holds[0].request_id, 5, 5, b"report")

    without = {key for key in valkey.scan_iter("*") if valkey.ttl(key) < 0}
    assert without == {b"usage.reports"}


async def test_an_idle_state_of_rates_alone_leaves_when_its_buckets_are_full(
    admission: Admission, valkey: redis.Redis
) -> None:
    hold = await admit(admission, Limits(requests_per_minute=60))
    await settle(admission, hold.request_id, 5)

    assert 55 <= valkey.ttl("limit:o5") <= 65


async def test_a_state_of_another_version_counts_as_none(
    admission: Admission, valkey: redis.Redis
) -> None:
    valkey.set("limit:o5", b"another form")
    hold = await admit(admission, ALL_LIMITS)
    assert await settle(admission, hold.request_id, 5)


async def test_when_usage_cannot_be_recorded_nothing_is_admitted(
    admission: Admission, valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "MOST_WAITING_REPORTS", 3)
    for number in range(3):
        await admit(admission, ALL_LIMITS)
        await settle(admission, f"req-other-{number}", 0, 0, b"report")
    before = stored(valkey)

    with pytest.raises(AdmissionUnavailable) as refused:
        await admit(admission, ALL_LIMITS)
    assert refused.value.status == 503
    assert stored(valkey) == before
    assert not await settle(admission, "req-late", 0, 0, b"report")  # what ran may still end
