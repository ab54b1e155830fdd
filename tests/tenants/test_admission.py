"""Admission on a real Valkey: what is reserved, what is refused, what is given back."""

from __future__ import annotations

import asyncio
import time

import pytest
import redis

from tenants.admission import Admission, gate
from tenants.admission.limits import month_of
from tenants.errors import AdmissionUnavailable, LimitExceeded
from tenants.principal import Limits
from tenants.redis_link import RedisLink
from tests.tenants.factory import NO_LIMITS, let_pass, make_principal, redis_ms, stored

MONTH, _ = month_of(time.time())
ALL_LIMITS = Limits(
    requests_per_minute=60, tokens_per_minute=6_000, concurrent_requests=5, monthly_tokens=10_000
)
_serial = iter(range(10**9))


async def admit(
    admission: Admission,
    organization: Limits = NO_LIMITS,
    key: Limits = NO_LIMITS,
    *,
    expected: int = 10,
    most: int = 20,
) -> gate.Hold:
    return await admission.admit(
        make_principal(organization, key),
        f"req-{next(_serial)}",
        expected_tokens=expected,
        most_tokens=most,
        note=b"note",
    )


async def refusal(admission: Admission, *limits: Limits, **costs: int) -> LimitExceeded:
    with pytest.raises(LimitExceeded) as refused:
        await admit(admission, *limits, **costs)
    assert refused.value.status == 429
    return refused.value


async def test_without_limits_everything_is_admitted_and_only_held(
    admission: Admission, valkey: redis.Redis
) -> None:
    for _ in range(20):
        assert (await admit(admission)).headers == []

    assert not list(valkey.scan_iter("limit:*"))
    assert valkey.zcard("holds") == 20


@pytest.mark.parametrize(
    ("limits", "name", "code"),
    [
        (Limits(requests_per_minute=3), "requests_per_minute", "rate_limit_exceeded"),
        (Limits(tokens_per_minute=30), "tokens_per_minute", "rate_limit_exceeded"),
        (Limits(concurrent_requests=3), "concurrent_requests", "rate_limit_exceeded"),
        (Limits(monthly_tokens=60), "monthly_tokens", "insufficient_quota"),
    ],
)
@pytest.mark.parametrize("subject", ["organization", "API key"])
async def test_each_limit_alone_admits_three_and_names_itself_to_the_fourth(
    admission: Admission, limits: Limits, name: str, code: str, subject: str
) -> None:
    both = (limits, Limits()) if subject == "organization" else (Limits(), limits)
    for _ in range(3):
        await admit(admission, *both)

    refused = await refusal(admission, *both)
    assert (refused.limit, refused.code) == (name, code)
    assert subject in refused.message


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
        Limits(tokens_per_minute=10),
        Limits(concurrent_requests=1),
        Limits(monthly_tokens=20),
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


@pytest.mark.parametrize("limits", [Limits(requests_per_minute=60), Limits(tokens_per_minute=600)])
async def test_retry_after_is_exact(
    admission: Admission, valkey: redis.Redis, limits: Limits
) -> None:
    """Who waits for so long is admitted; who waits 50 ms less is not."""
    for _ in range(60):
        await admit(admission, limits)
    for _ in range(50):  # until a try is not interrupted by whatever else this machine does
        refused = await refusal(admission, limits)
        wait_ms, asked_at = (refused.retry_after_s or 0) * 1000, redis_ms(valkey)
        assert 0 < wait_ms <= 1010
        let_pass(valkey, wait_ms - 50)
        try:
            await admit(admission, limits)
        except LimitExceeded:
            let_pass(valkey, 50)
            await admit(admission, limits)
            return
        assert redis_ms(valkey) - asked_at > 20, "admitted 50 ms early"
    pytest.skip("this machine never gave 20 ms in a row")


async def test_the_headers_tell_what_the_bucket_holds(
    admission: Admission, valkey: redis.Redis
) -> None:
    limits = Limits(requests_per_minute=60, tokens_per_minute=6_000)
    headers = dict((await admit(admission, limits, expected=1_000)).headers)

    assert headers[b"x-ratelimit-limit-requests"] == b"60"
    assert headers[b"x-ratelimit-remaining-requests"] == b"59"
    assert headers[b"x-ratelimit-reset-requests"] == b"1s"  # one request refills in 1 s
    assert headers[b"x-ratelimit-limit-tokens"] == b"6000"
    assert headers[b"x-ratelimit-remaining-tokens"] == b"5000"
    assert headers[b"x-ratelimit-reset-tokens"] == b"10s"


async def test_a_refusals_headers_tell_what_is_left_now(admission: Admission) -> None:
    """Nothing was reserved, so nothing is missing from the limit that had room."""
    limits = Limits(requests_per_minute=60, tokens_per_minute=6_000)
    await admit(admission, limits, expected=5_999)
    headers = dict((await refusal(admission, limits, expected=3_000)).headers)

    assert headers[b"x-ratelimit-remaining-requests"] == b"59"
    assert int(headers[b"x-ratelimit-remaining-tokens"]) < 1_000


async def test_the_headers_tell_of_the_tighter_of_organization_and_key(
    admission: Admission,
) -> None:
    hold = await admit(admission, Limits(requests_per_minute=600), Limits(requests_per_minute=10))

    assert dict(hold.headers)[b"x-ratelimit-limit-requests"] == b"10"
    assert dict(hold.headers)[b"x-ratelimit-remaining-requests"] == b"9"


async def test_a_limit_of_nothing_refuses_everything_for_ever(admission: Admission) -> None:
    for limits in (
        Limits(requests_per_minute=0),
        Limits(tokens_per_minute=0),
        Limits(concurrent_requests=0),
        Limits(monthly_tokens=0),
    ):
        refused = await refusal(admission, limits, expected=1, most=1)
        assert refused.retry_after_s is None
        assert dict(refused.headers).get(b"x-ratelimit-remaining-requests", b"0") == b"0"


@pytest.mark.parametrize(
    ("limits", "name"),
    [
        (Limits(tokens_per_minute=100, requests_per_minute=1), "tokens_per_minute"),
        (Limits(monthly_tokens=100, requests_per_minute=1), "monthly_tokens"),
    ],
)
async def test_a_request_larger_than_the_limit_is_told_to_shrink_and_not_to_wait(
    admission: Admission, limits: Limits, name: str
) -> None:
    await admit(admission, limits, expected=1, most=1)  # so that waiting would help the other
    refused = await refusal(admission, limits, expected=101, most=101)

    assert refused.limit == name
    assert refused.retry_after_s is None
    assert "101 tokens" in refused.message and "Lower max_tokens" in refused.message


async def test_settling_returns_what_was_not_used(
    admission: Admission, valkey: redis.Redis
) -> None:
    hold = await admit(admission, ALL_LIMITS, expected=6_000, most=10_000)
    assert await admission.settle(hold.request_id, 100, b"report")

    assert valkey.get(f"limit:o5:month:{MONTH}") == b"100"
    assert valkey.zcard("limit:o5:now") == 0
    left = await admit(admission, ALL_LIMITS, expected=1, most=1)
    assert dict(left.headers)[b"x-ratelimit-remaining-tokens"] == b"5899"
    # A request was made, whatever it used: that is not given back.
    assert dict(left.headers)[b"x-ratelimit-remaining-requests"] == b"58"


async def test_what_was_used_beyond_the_hold_is_charged(
    admission: Admission, valkey: redis.Redis
) -> None:
    hold = await admit(admission, ALL_LIMITS, expected=10, most=20)
    await admission.settle(hold.request_id, 7_000, b"report")

    assert valkey.get(f"limit:o5:month:{MONTH}") == b"7000"
    refused = await refusal(admission, ALL_LIMITS, expected=1, most=1)
    assert refused.limit == "tokens_per_minute"
    assert 9 < (refused.retry_after_s or 0) <= 10.02  # 1,000 tokens of debt at 100 a second


async def test_overuse_is_charged_though_the_bucket_has_expired(
    admission: Admission, valkey: redis.Redis
) -> None:
    limits = Limits(tokens_per_minute=6_000)
    hold = await admit(admission, limits, expected=10)
    valkey.delete("limit:o5:tpm")
    await admission.settle(hold.request_id, 3_010, b"report")

    left = await admit(admission, limits, expected=1)
    assert 2_990 <= int(dict(left.headers)[b"x-ratelimit-remaining-tokens"]) <= 3_010


async def test_an_unused_part_never_makes_a_bucket_fuller_than_full(
    admission: Admission, valkey: redis.Redis
) -> None:
    limits = Limits(tokens_per_minute=6_000)
    hold = await admit(admission, limits, expected=3_000)
    let_pass(valkey, 29_000)  # nearly all of it has flowed back by itself
    await admission.settle(hold.request_id, 0, b"report")

    assert valkey.get("limit:o5:tpm") is None
    assert (await refusal(admission, limits, expected=6_001)).limit == "tokens_per_minute"


async def test_settling_twice_gives_back_once_and_reports_twice(
    admission: Admission, valkey: redis.Redis
) -> None:
    """The ledger counts a request id once, so the report may come again."""
    await admit(admission, ALL_LIMITS)
    hold = await admit(admission, ALL_LIMITS)
    assert await admission.settle(hold.request_id, 5, b"report")
    before = {key: value for key, value in stored(valkey).items() if key != b"usage.reports"}
    assert not await admission.settle(hold.request_id, 5, b"report")

    after = stored(valkey)
    assert len(after.pop(b"usage.reports")) == 2  # type: ignore[arg-type]
    assert after == before


async def test_settling_what_was_never_admitted_reports_and_changes_no_limit(
    admission: Admission, valkey: redis.Redis
) -> None:
    assert not await admission.settle("req-unknown", 500, b"report")

    ((_, fields),) = valkey.xrange("usage.reports")
    assert fields == {b"report": b"report"}
    assert list(stored(valkey)) == [b"usage.reports"]


async def test_a_negative_use_counts_as_none(admission: Admission, valkey: redis.Redis) -> None:
    hold = await admit(admission, ALL_LIMITS)
    await admission.settle(hold.request_id, -1_000, b"")

    assert valkey.get(f"limit:o5:month:{MONTH}") == b"0"
    assert not valkey.exists("usage.reports")


async def test_a_hold_of_last_month_is_settled_against_last_month(
    admission: Admission, valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    before_midnight = 1_767_225_599.5  # 2025-12-31 23:59:59.5 UTC
    with monkeypatch.context() as clock:
        clock.setattr(gate.time, "time", lambda: before_midnight)
        hold = await admit(admission, Limits(monthly_tokens=100))
    await admission.settle(hold.request_id, 7, b"")

    assert valkey.get("limit:o5:month:2025-12") == b"7"
    assert not valkey.exists(f"limit:o5:month:{MONTH}")


async def test_holds_expire_in_order_and_settled_ones_do_not(
    link: RedisLink,
) -> None:
    admission = Admission(link, hold_expiry_s=100)
    now = time.time()
    holds = [await admit(admission) for _ in range(3)]
    await admission.settle(holds[1].request_id, 0, b"")

    assert await admission.expired_holds(now + 50) == []
    due = await admission.expired_holds(now + 150)
    assert [hold.request_id for hold in due] == [holds[0].request_id, holds[2].request_id]
    assert all(hold.note == b"note" and abs(hold.expired_at - now - 100) < 30 for hold in due)
    assert len(await admission.expired_holds(now + 150, count=1)) == 1


async def test_an_expired_hold_frees_its_place_before_anyone_settles_it(
    link: RedisLink,
) -> None:
    admission = Admission(link, hold_expiry_s=0.05)
    limits = Limits(concurrent_requests=1)
    await admit(admission, limits)
    await asyncio.sleep(0.1)

    await admit(admission, limits)


async def test_an_index_entry_without_its_hold_is_cleared(
    admission: Admission, valkey: redis.Redis
) -> None:
    hold = await admit(admission)
    valkey.delete(f"hold:{hold.request_id}")

    assert await admission.expired_holds(time.time() + 10_000) == []
    assert valkey.zcard("holds") == 0


async def test_when_usage_cannot_be_recorded_nothing_is_admitted(
    admission: Admission, valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "MOST_WAITING_REPORTS", 3)
    for number in range(3):
        await admit(admission, ALL_LIMITS)
        await admission.settle(f"req-other-{number}", 0, b"report")
    before = stored(valkey)

    with pytest.raises(AdmissionUnavailable) as refused:
        await admit(admission, ALL_LIMITS)
    assert refused.value.status == 503
    assert stored(valkey) == before
    assert await admission.settle("req-late", 0, b"report") is False  # what ran may still end


async def test_without_redis_nothing_is_admitted() -> None:
    nowhere = RedisLink("redis://127.0.0.1:1/0", timeout_s=1, name="nowhere")
    with pytest.raises(AdmissionUnavailable):
        await admit(Admission(nowhere, 900), ALL_LIMITS)
    await nowhere.aclose()
