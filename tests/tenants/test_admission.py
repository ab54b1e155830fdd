"""Admission on a real Valkey: what is reserved, what is refused, what is given back."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
import redis

from tenants.admission import Admission, gate
from tenants.admission.limits import months_at
from tenants.errors import LimitExceeded
from tenants.principal import NO_LIMITS, Limits, Principal
from tests.tenants.factory import (
    MODEL,
    let_pass,
    make_principal,
    redis_ms,
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
