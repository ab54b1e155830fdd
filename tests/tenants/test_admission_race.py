"""Four gateway processes flood one limit: never above it, and never short of it."""

from __future__ import annotations

import subprocess
import sys

import redis
from django.conf import settings

from tests.harness.platform import wait_for
from tests.harness.services import CHECKOUT
from tests.tenants.factory import redis_ms
from tests.tenants.flood import GO, PEAK, Flood

PROCESSES = 4


def flood_from_four_processes(valkey: redis.Redis, flood: Flood) -> tuple[int, float]:
    """How many were admitted in all, and in how many seconds of Redis's clock."""
    command = [sys.executable, "-m", "tests.tenants.flood", flood.argument()]
    gateways = [
        subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True)
        for _ in range(PROCESSES)
    ]
    try:
        wait_for(lambda: int(valkey.get("flood.ready") or 0) == PROCESSES, 60)
        started = redis_ms(valkey)
        valkey.set(GO, 1)
        admitted = sum(int(gateway.communicate(timeout=60)[0]) for gateway in gateways)
        return admitted, (redis_ms(valkey) - started) / 1000
    finally:
        for gateway in gateways:
            gateway.kill()
            gateway.wait()


def test_requests_a_minute_are_a_bucket_that_nobody_overdraws(valkey: redis.Redis) -> None:
    flood = Flood(settings.REDIS_URL, "requests_per_minute", limit=200, attempts=160)
    admitted, seconds = flood_from_four_processes(valkey, flood)

    assert admitted >= 0.99 * flood.limit
    assert admitted <= flood.limit + flood.limit * seconds / 60 + 1  # full, and what flowed in


def test_concurrent_requests_never_exceed_their_number(valkey: redis.Redis) -> None:
    flood = Flood(settings.REDIS_URL, "concurrent_requests", limit=10, attempts=160, releases=True)
    admitted, _ = flood_from_four_processes(valkey, flood)

    assert 0 < int(valkey.zscore(PEAK, "peak") or 0) <= flood.limit
    assert admitted > flood.limit  # places were taken again as they became free
    assert valkey.zcard("limit:o5:now") == valkey.zcard("holds") == 0


def test_places_that_nobody_frees_are_given_out_exactly(valkey: redis.Redis) -> None:
    flood = Flood(settings.REDIS_URL, "concurrent_requests", limit=100, attempts=80)

    assert flood_from_four_processes(valkey, flood)[0] == flood.limit


def test_a_monthly_quota_is_spent_to_the_last_whole_request(valkey: redis.Redis) -> None:
    flood = Flood(settings.REDIS_URL, "monthly_tokens", limit=1_000, attempts=80, tokens=7)
    admitted, _ = flood_from_four_processes(valkey, flood)

    assert admitted == 1_000 // 7


def test_control_without_the_script_the_same_flood_exceeds_the_limit(valkey: redis.Redis) -> None:
    flood = Flood(
        settings.REDIS_URL, "monthly_tokens", limit=1_000, attempts=80, tokens=7, is_atomic=False
    )
    admitted, _ = flood_from_four_processes(valkey, flood)

    assert admitted > 1_000 // 7
