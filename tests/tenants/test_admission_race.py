"""Four gateway processes flood one limit: never above it, and never short of it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
import redis
from django.conf import settings

from tests.harness.platform import wait_for
from tests.harness.services import CHECKOUT
from tests.tenants.factory import redis_ms, state_of
from tests.tenants.flood import GO, PEAK, READY, Flood

PROCESSES = 4
PERIODS_S = {
    "requests_per_minute": 60, "requests_per_hour": 3_600, "requests_per_day": 86_400,
    "tokens_per_minute": 60, "tokens_per_day": 86_400,
}  # fmt: skip
Gateways = list[subprocess.Popen[str]]


@pytest.fixture(scope="module")
def gateways() -> Iterator[Gateways]:
    """Started once: most of a gateway's second is its imports."""
    command = [sys.executable, "-m", "tests.tenants.flood", settings.REDIS_URL]
    started = [
        subprocess.Popen(
            command, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(PROCESSES)
    ]
    yield started
    for gateway in started:
        gateway.kill()
        gateway.communicate()


def let_flood(valkey: redis.Redis, gateways: Gateways, flood: Flood) -> tuple[int, float]:
    """How many were admitted in all, and in how many seconds of Redis's clock."""
    for gateway in gateways:
        assert gateway.stdin is not None
        gateway.stdin.write(flood.line())
        gateway.stdin.flush()
    wait_for(lambda: int(valkey.get(READY) or 0) == PROCESSES, 60, every_s=0.01)
    started = redis_ms(valkey)
    valkey.set(GO, 1)
    admitted = sum(int(gateway.stdout.readline()) for gateway in gateways if gateway.stdout)
    return admitted, (redis_ms(valkey) - started) / 1000


@pytest.mark.parametrize(
    ("field", "place"),
    [
        ("requests_per_minute", "organization"),
        ("requests_per_hour", "project"),
        ("requests_per_day", "key"),
        ("tokens_per_minute", "organization_models"),
        ("tokens_per_day", "project_models"),
    ],
)
def test_a_rate_is_a_bucket_that_nobody_overdraws(
    valkey: redis.Redis, gateways: Gateways, field: str, place: str
) -> None:
    each = 7 if field.startswith("tokens") else 1
    flood = Flood(field, limit=200 * each, attempts=160, place=place, each=each)
    admitted, seconds = let_flood(valkey, gateways, flood)

    assert admitted >= 0.99 * 200
    assert admitted <= 200 + 200 * seconds / PERIODS_S[field] + 1  # full, and what flowed in


def test_concurrent_requests_never_exceed_their_number(
    valkey: redis.Redis, gateways: Gateways
) -> None:
    flood = Flood("concurrent_requests", limit=10, attempts=160, releases=True)
    admitted, _ = let_flood(valkey, gateways, flood)

    assert 0 < int(valkey.zscore(PEAK, "peak") or 0) <= flood.limit
    assert admitted > flood.limit  # places were taken again as they became free
    assert state_of(valkey).in_flight == valkey.zcard("holds") == 0


def test_places_that_nobody_frees_are_given_out_exactly(
    valkey: redis.Redis, gateways: Gateways
) -> None:
    assert let_flood(valkey, gateways, Flood("concurrent_requests", 100, attempts=80))[0] == 100


@pytest.mark.parametrize("place", ["organization", "project", "key", "organization_models"])
@pytest.mark.parametrize("field", ["monthly_tokens", "monthly_budget_micros"])
def test_a_sum_is_spent_to_the_last_whole_request(
    valkey: redis.Redis, gateways: Gateways, field: str, place: str
) -> None:
    flood = Flood(field, limit=1_000, attempts=80, each=7, place=place)

    assert let_flood(valkey, gateways, flood)[0] == 1_000 // 7


@pytest.mark.parametrize("releases", [False, True])
def test_prepaid_credit_is_spent_to_the_last_whole_request(
    valkey: redis.Redis, gateways: Gateways, releases: bool
) -> None:
    """Also when requests end meanwhile: what they held they have spent."""
    flood = Flood("credit", limit=1_000, attempts=80, each=7, releases=releases)
    admitted, _ = let_flood(valkey, gateways, flood)

    assert admitted == 1_000 // 7
    state = state_of(valkey)
    assert state.life + state.life_held == 7 * admitted


def test_control_without_the_script_the_same_flood_exceeds_the_limit(
    valkey: redis.Redis, gateways: Gateways
) -> None:
    flood = Flood("monthly_budget_micros", 1_000, attempts=80, each=7, is_atomic=False)

    assert let_flood(valkey, gateways, flood)[0] > 1_000 // 7
