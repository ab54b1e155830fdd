"""Holds on a real Valkey: settled once with what was really used, or expired."""

from __future__ import annotations

import asyncio
import time

import pytest
import redis

from tenants.admission import Admission, gate
from tenants.errors import AdmissionUnavailable, LimitExceeded
from tenants.principal import Limits
from tenants.redis_link import RedisLink
from tests.tenants.factory import MODEL, Ledger, let_pass, make_principal, state_of, stored
from tests.tenants.test_admission import ALL_LIMITS, admit, refusal, settle


async def test_settling_returns_what_was_not_used(
    admission: Admission, valkey: redis.Redis
) -> None:
    caller = make_principal(ALL_LIMITS, project=ALL_LIMITS, key=ALL_LIMITS, credit=50_000)
    began = time.monotonic()
    hold = await admit(admission, caller, expected=6_000, most=10_000, micros=50_000)
    await refusal(admission, caller, expected=1, most=1, micros=1)
    assert await settle(admission, hold.request_id, 100, 700, b"report")

    for subject in ("o5", "p3", "k7"):
        state = state_of(valkey, subject)
        assert (state.tokens, state.tokens_held, state.in_flight) == (100, 0, 0)
        assert (state.micros, state.micros_held, state.life_held) == (700, 0, 0)
    assert state_of(valkey, "o5").life == 700
    left = await admit(admission, caller, expected=1, most=1)
    refilled = 1 + (time.monotonic() - began) * 100  # 6,000 a minute
    assert 5_899 <= int(dict(left.headers)[b"x-ratelimit-remaining-tokens"]) <= 5_899 + refilled
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


async def test_a_batch_counts_for_sums_and_for_nothing_else(
    admission: Admission, valkey: redis.Redis
) -> None:
    """Neither does it take from rates and places, nor does it give back what live requests took."""
    limits = Limits(
        requests_per_minute=2, tokens_per_minute=60, concurrent_requests=1, monthly_tokens=1_000
    )
    caller = make_principal(limits)
    live = await admit(admission, caller, expected=50, most=50)
    for number in range(3):
        await admission.admit(
            caller, f"batch-{number}", model=MODEL, expected_tokens=100, most_tokens=100,
            most_cost_micros=0, note=b"", counts_rates=False,
        )  # fmt: skip
    state = state_of(valkey, "o5")
    assert (state.in_flight, state.tokens_held) == (1, 350)
    for number in range(3):
        await settle(admission, f"batch-{number}", 90, 0, b"")
    state = state_of(valkey, "o5")
    assert (state.in_flight, state.tokens, state.tokens_held) == (1, 270, 50)
    refused = await refusal(admission, caller, expected=1, most=1)
    assert refused.limit == "concurrent_requests", "the live request's place, and no other"

    await settle(admission, live.request_id, 50, 0, b"")
    left = await admit(admission, caller, expected=1, most=1)
    assert dict(left.headers)[b"x-ratelimit-remaining-requests"] == b"0"
    assert 8 <= int(dict(left.headers)[b"x-ratelimit-remaining-tokens"]) <= 10
    with pytest.raises(LimitExceeded, match="tokens this month"):
        await admission.admit(
            caller, "batch-4", model=MODEL, expected_tokens=1, most_tokens=700,
            most_cost_micros=0, note=b"", counts_rates=False,
        )  # fmt: skip
