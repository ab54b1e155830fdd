"""Redis away: money is closed and says so, rates go on within this process's share."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator

import pytest
import redis
from django.conf import settings
from prometheus_client import REGISTRY

from tenants.admission import Admission, fallback
from tenants.admission.fallback import Fallback
from tenants.admission.kinds import KINDS, Costs
from tenants.admission.subjects import subjects_of
from tenants.errors import AdmissionUnavailable, LimitExceeded
from tenants.principal import Limits, Principal
from tenants.redis_link import RedisLink
from tests.tenants.factory import MODEL, Ledger, make_principal
from tests.tenants.test_admission import admit, refusal, settle
from tests.workers.proxy import Proxy, proxied

AWAY = ConnectionError("away")


@pytest.fixture
async def nowhere() -> AsyncIterator[Admission]:
    link = RedisLink("redis://127.0.0.1:1/0", timeout_s=1, name="nowhere")
    yield Admission(link, 900)
    await link.aclose()


def counted(limit: str, outcome: str) -> float:
    labels = {"limit": limit, "outcome": outcome}
    return REGISTRY.get_sample_value("sluice_admission_fallback_total", labels) or 0


def test_every_kind_says_what_it_does_without_redis() -> None:
    closed = {kind.name for kind in KINDS if kind.outage == "closed"}
    assert closed == {"monthly_tokens", "monthly_budget", "prepaid_credit"}


@pytest.mark.parametrize(
    ("caller", "name"),
    [
        (make_principal(Limits(monthly_tokens=10**9)), "monthly_tokens"),
        (make_principal(project=Limits(monthly_budget_micros=10**9)), "monthly_budget"),
        (make_principal(key=Limits(monthly_budget_micros=10**9)), "monthly_budget"),
        (make_principal(credit=10**9), "prepaid_credit"),
        (make_principal(project_models={MODEL: Limits(monthly_tokens=9)}), "monthly_tokens"),
    ],
)
async def test_money_is_closed_by_name(nowhere: Admission, caller: Principal, name: str) -> None:
    before = counted(name, "closed")
    with pytest.raises(AdmissionUnavailable) as refused:
        await admit(nowhere, caller)

    assert refused.value.status == 503
    assert name in refused.value.message
    assert counted(name, "closed") == before + 1


async def test_rates_go_on_within_a_quarter_and_tell_of_it(nowhere: Admission) -> None:
    caller = make_principal(Limits(requests_per_minute=40, tokens_per_minute=4_000))
    admitted, refused = counted("any", "admitted"), counted("requests_per_minute", "refused")
    headers = dict((await admit(nowhere, caller, expected=50)).headers)
    assert headers[b"x-ratelimit-limit-requests"] == b"40"
    assert headers[b"x-ratelimit-remaining-requests"] == b"9"
    assert headers[b"x-ratelimit-remaining-tokens"] == b"950"
    for _ in range(9):
        await admit(nowhere, caller, expected=50)

    error = await refusal(nowhere, caller, expected=50)
    assert error.limit == "requests_per_minute"
    assert 5.5 < (error.retry_after_s or 0) <= 6
    assert counted("any", "admitted") == admitted + 10
    assert counted("requests_per_minute", "refused") == refused + 1


async def test_places_are_freed_when_requests_end_although_redis_is_away(
    nowhere: Admission,
) -> None:
    caller = make_principal(Limits(concurrent_requests=8))
    holds = [await admit(nowhere, caller) for _ in range(2)]
    assert (await refusal(nowhere, caller)).limit == "concurrent_requests"
    for hold in holds:
        with pytest.raises((OSError, redis.RedisError)):
            await settle(nowhere, hold.request_id, 5)
        with pytest.raises((OSError, redis.RedisError)):
            await settle(nowhere, hold.request_id, 5)  # as its retries will

    assert [await admit(nowhere, caller) for _ in range(2)]
    await refusal(nowhere, caller)


async def test_a_limit_of_nothing_or_of_one_stays_what_it_is(nowhere: Admission) -> None:
    one = make_principal(Limits(requests_per_minute=1, concurrent_requests=1))
    await admit(nowhere, one)
    await refusal(nowhere, one)
    for nothing in (Limits(requests_per_day=0), Limits(concurrent_requests=0)):
        refused = await refusal(nowhere, make_principal(project=nothing))
        assert refused.retry_after_s is None


def test_who_waits_as_told_is_admitted() -> None:
    now = [0.0]
    limits = Fallback(clock=lambda: now[0])
    who = subjects_of(make_principal(Limits(tokens_per_minute=6_000, requests_per_hour=80)), MODEL)
    rounds = 0
    for number in range(200):
        try:
            limits.admit(who, f"req-{number}", Costs(400, 400, 0), AWAY)
        except LimitExceeded as refused:
            rounds += 1
            now[0] += refused.retry_after_s or 0
            limits.admit(who, f"req-{number}-again", Costs(400, 400, 0), AWAY)
    assert rounds > 50


def test_unused_tokens_come_back_and_a_debt_is_paid() -> None:
    now = [0.0]
    limits = Fallback(clock=lambda: now[0])
    who = subjects_of(make_principal(Limits(tokens_per_minute=4_000)), MODEL)
    limits.admit(who, "a", Costs(1_000, 0, 0), AWAY)
    limits.release("a", 100)
    limits.release("a", 100)
    limits.admit(who, "b", Costs(900, 0, 0), AWAY)
    limits.release("b", 1_900)
    with pytest.raises(LimitExceeded) as refused:
        limits.admit(who, "c", Costs(1, 0, 0), AWAY)
    assert 59 < (refused.value.retry_after_s or 0) < 61  # 1,000 at 1,000 a minute


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fallback, "SUBJECTS", 10)
    limits = Fallback()
    for number in range(100):
        caller = make_principal(Limits(requests_per_minute=5))
        (who, *_) = subjects_of(caller, MODEL)
        limits.admit([who._replace(key=f"limit:o{number}")], f"req-{number}", Costs(1, 1, 1), AWAY)
        limits.release(f"req-{number}", 1)

    assert len(limits._known) == 10
    assert not limits._holds


async def test_the_log_says_it_once_and_not_once_a_request(
    nowhere: Admission, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        for _ in range(20):
            await admit(nowhere, make_principal(Limits(requests_per_minute=1_000)))

    assert [record.message for record in caplog.records] == ["admission.fallback"]


@pytest.fixture
async def proxy(valkey: redis.Redis) -> AsyncIterator[Proxy]:
    async with proxied(settings.REDIS_URL) as proxy:
        yield proxy


async def test_what_was_admitted_without_redis_is_harmless_when_settled_in_it(
    proxy: Proxy, valkey: redis.Redis
) -> None:
    link = RedisLink(proxy.url, timeout_s=1, name="fallback")
    admission = Admission(link, 900, Ledger())
    caller = make_principal(Limits(requests_per_minute=40, concurrent_requests=40))
    await proxy.cut()
    hold = await admit(admission, caller)
    await proxy.mend()
    deadline = time.monotonic() + 5
    while True:
        try:
            assert not await settle(admission, hold.request_id, 5, 5, b"report")
            break
        except (redis.RedisError, OSError):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)

    assert valkey.keys("limit:*") == []
    assert valkey.xlen("usage.reports") == 1
    headers = dict((await admit(admission, caller)).headers)
    assert headers[b"x-ratelimit-remaining-requests"] == b"39"
    await link.aclose()


# Redis does nothing else for half a second and more; time stands still in a script.
BUSY = "for _ = 1, 150000000 do end"


@pytest.mark.parametrize("is_released", [False, True])
async def test_what_a_silent_redis_held_for_who_was_refused_is_released(
    valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch, is_released: bool
) -> None:
    """Otherwise it stays held until it expires: the control."""
    if not is_released:
        monkeypatch.setattr(Admission, "_release_when_back", lambda _self, _request: None)
    link = RedisLink(settings.REDIS_URL, timeout_s=0.3, name="fallback")
    admission = Admission(link, 900, Ledger())
    caller = make_principal(Limits(concurrent_requests=40, monthly_budget_micros=10**9))
    first = await admit(admission, caller)
    await settle(admission, first.request_id, 5, 5, b"report")
    busy = asyncio.create_task(asyncio.to_thread(valkey.eval, BUSY, 0))
    await asyncio.sleep(0.1)
    with pytest.raises(AdmissionUnavailable):
        await admit(admission, caller)
    await busy
    await asyncio.sleep(2.0 if is_released else 0.2)
    assert valkey.zcard("holds") == (0 if is_released else 1)
    await link.aclose()
