"""Clocks that jump and months that end, by a state that says when it was last looked at."""

from __future__ import annotations

import struct
import time

import pytest
import redis

from tenants.admission import Spent, gate
from tenants.admission.gate import Admission
from tenants.admission.limits import month_start_s, months_at
from tenants.errors import LimitExceeded
from tenants.principal import Limits
from tests.tenants.factory import Ledger, change_state, make_principal, state_of
from tests.tenants.test_admission import admit, refusal, settle

YEAR_MS = 365 * 86_400_000
MONTH = months_at(time.time()).number
RATES = Limits(requests_per_minute=60, requests_per_day=100, tokens_per_day=10_000)
SUMS = Limits(monthly_tokens=100, monthly_budget_micros=1_000)


def change_hold(
    client: redis.Redis, request_id: str, month: float | None = None, slot: float | None = None
) -> None:
    """As if it had been admitted in another month or lease slot: its first two numbers."""
    content = client.get(f"held:{request_id}")
    was_month, was_slot = struct.unpack_from("<dd", content)
    head = struct.pack("<dd", month or was_month, slot or was_slot)
    client.set(f"held:{request_id}", head + content[16:], keepttl=True)


@pytest.mark.parametrize("jump_ms", [50, 60_000, 3_600_000, YEAR_MS])
async def test_a_clock_set_back_finds_each_bucket_as_it_was(
    admission: Admission, valkey: redis.Redis, jump_ms: int
) -> None:
    for _ in range(59):
        await admit(admission, RATES)
    change_state(valkey, seen=state_of(valkey).seen + jump_ms)

    await admit(admission, RATES)  # there was room for one, and is
    refused = await refusal(admission, RATES)
    assert refused.limit == "requests_per_minute"
    assert 0.9 < (refused.retry_after_s or 0) <= 1
    assert abs(state_of(valkey).seen - time.time() * 1000) < 5_000


async def test_a_clock_that_leapt_ahead_gives_no_more_than_a_full_bucket(
    admission: Admission, valkey: redis.Redis
) -> None:
    for _ in range(60):
        await admit(admission, RATES)
    change_state(valkey, seen=state_of(valkey).seen - YEAR_MS)
    for _ in range(60):
        await admit(admission, RATES)

    await refusal(admission, RATES)


@pytest.mark.parametrize("slots", [1, 2, 40_000])
async def test_places_taken_before_a_clock_went_back_are_freed_when_their_requests_end(
    admission: Admission, valkey: redis.Redis, slots: int
) -> None:
    limits = Limits(concurrent_requests=2)
    holds = [await admit(admission, limits) for _ in range(2)]
    later = state_of(valkey).slot + slots
    change_state(valkey, slot=later)
    for hold in holds:
        change_hold(valkey, hold.request_id, slot=later)
    await refusal(admission, limits)
    for hold in holds:
        await settle(admission, hold.request_id)
    holds = [await admit(admission, limits) for _ in range(2)]
    for hold in holds:
        await settle(admission, hold.request_id)

    assert state_of(valkey).in_flight == 0


async def test_a_new_month_begins_with_nothing_used(
    admission: Admission, ledger: Ledger, valkey: redis.Redis
) -> None:
    hold = await admit(admission, SUMS, most=90)
    await settle(admission, hold.request_id, 90, 900)
    await refusal(admission, SUMS, most=90)
    change_state(valkey, month=MONTH - 1)

    await admit(admission, SUMS, most=90)
    assert len(ledger.asked) == 1  # it is known that a month begins with nothing
    assert (state_of(valkey).tokens, state_of(valkey).month) == (0, MONTH)


async def test_what_ran_into_a_new_month_is_settled_in_the_one_that_held_it(
    admission: Admission, valkey: redis.Redis
) -> None:
    caller = make_principal(SUMS, credit=1_000)
    last = await admit(admission, caller, most=100, micros=500)
    change_hold(valkey, last.request_id, month=MONTH - 1)
    change_state(valkey, month=MONTH - 1)
    current = await admit(admission, caller, most=60, micros=300)
    await settle(admission, last.request_id, 80, 400)

    state = state_of(valkey)
    assert (state.month, state.tokens, state.tokens_held) == (MONTH, 0, 60)
    assert (state.micros, state.micros_held) == (0, 300)
    assert (state.life, state.life_held) == (400, 300)  # a life has no months
    await settle(admission, current.request_id, 50, 200)
    state = state_of(valkey)
    assert (state.tokens, state.micros, state.life, state.life_held) == (50, 200, 600, 0)


@pytest.mark.parametrize("ahead", [1, 170])
async def test_a_clock_that_comes_back_from_a_later_month_asks_the_ledger(
    admission: Admission, ledger: Ledger, valkey: redis.Redis, ahead: int
) -> None:
    await admit(admission, SUMS, most=10)
    change_state(valkey, month=MONTH + ahead, tokens=0, tokens_held=0)
    ledger.spent = Spent(95, 0, 0)

    with pytest.raises(LimitExceeded):
        await admit(admission, SUMS, most=10)
    assert ledger.asked[-1].month_start.timestamp() == month_start_s(MONTH)
    assert state_of(valkey).month == MONTH


@pytest.mark.parametrize("off", [-1, 1])
async def test_a_gateway_whose_clock_is_in_another_month_counts_in_redis_month(
    admission: Admission, valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch, off: int
) -> None:
    months = months_at(time.time())
    moment = (months.begins / 1000 - 1) if off < 0 else (months.next_begins / 1000 + 1)
    with monkeypatch.context() as clock:
        clock.setattr(gate.time, "time", lambda: moment)
        await admit(admission, SUMS)

    assert state_of(valkey).month == MONTH
