"""What a key costs: looked up for the first time, known already, and a change of scope."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Callable, Coroutine
from typing import Any
from unittest import mock

from django.conf import settings
from django.db import connection

from benchmarks.arithmetic import percentile
from benchmarks.seed import Population
from tenants import authentication, keys, scope
from tenants.authentication import Authenticator, get_principal

ADDRESS = "203.0.113.7"
WARM_UP = 50
WARM_KEYS = 2_000
WARM_ROUNDS = 7
SCOPE_CHANGES = 5_000
SCOPE_ROUNDS = 5


def lookups(population: Population, count: int) -> dict[str, object]:
    """Of ``count`` random live keys; milliseconds, and CPU microseconds where it says so."""
    live = [n for n in range(1, population.keys + 1) if n % 20]
    cold = [population.key_text(n) for n in random.sample(live, count)]
    warm = [population.key_text(n) for n in random.sample(live, min(WARM_KEYS, len(live)))]
    wall_ms, cpu_us = _cold(cold)
    return {
        "keys": count,
        "get_principal_ms": _spread(wall_ms),
        "get_principal_cpu_us": statistics.median(cpu_us),
        "get_principal_least_cpu_us": min(cpu_us),
        "authenticate_cold_ms": _spread(asyncio.run(_cold_authenticate_ms(cold))),
        "queries": _queries(cold[0]),
        "warm": asyncio.run(_warm(warm)),
        "scope_change_us": _scope_change_us(),
    }


def _spread(values_ms: list[float]) -> dict[str, float]:
    return {
        "least": min(values_ms),
        "p50": percentile(values_ms, 0.5),
        "p99": percentile(values_ms, 0.99),
        "max": max(values_ms),
    }


def _cold(texts: list[str]) -> tuple[list[float], list[float]]:
    """Each key's own look-up in PostgreSQL, as the gateway's thread does it: ms, and µs CPU."""
    presented = [(keys.lookup_of(t) or "", keys.digest(t, settings.API_KEY_PEPPER)) for t in texts]
    wall_ms, cpu_us = [], []
    for lookup, digest in presented:
        started, spent = time.perf_counter(), time.thread_time()
        assert get_principal(lookup, digest) is not None
        cpu_us.append((time.thread_time() - spent) * 1e6)
        wall_ms.append((time.perf_counter() - started) * 1000)
    return wall_ms[WARM_UP:], cpu_us[WARM_UP:]


async def _cold_authenticate_ms(texts: list[str]) -> list[float]:
    """The same as a request meets it, the way into a thread and back included."""
    authenticator, times = Authenticator(), []
    for text in texts:
        started = time.perf_counter()
        await authenticator.authenticate(f"Bearer {text}".encode(), ADDRESS)
        times.append((time.perf_counter() - started) * 1000)
    return times[WARM_UP:]


def _queries(text: str) -> int:
    """Statements of one look-up, a change of scope counted as one."""
    seen: list[str] = []

    def count(execute: Any, sql: str, *rest: Any) -> Any:
        seen.append(sql)
        return execute(sql, *rest)

    with (
        mock.patch.object(connection, "close"),
        connection.execute_wrapper(count),
    ):
        get_principal(keys.lookup_of(text) or "", keys.digest(text, settings.API_KEY_PEPPER))
    connection.close()
    return len(seen)


async def _warm(texts: list[str]) -> dict[str, float]:
    """CPU of ``authenticate`` for keys that are known; ``look_ups`` must be 0."""
    headers = [f"Bearer {text}".encode() for text in texts]
    authenticator = Authenticator()
    authenticator._ttl_s = 3600.0  # nothing here lasts that long
    for header in headers:
        await authenticator.authenticate(header, ADDRESS)
    with mock.patch.object(authentication, "get_principal") as look_up:
        times = [await _warm_us(authenticator, headers) for _ in range(WARM_ROUNDS)]
    return {
        "keys": len(texts),
        "median_us": statistics.median(times),
        "least_us": min(times),
        "look_ups": look_up.call_count,
    }


async def _warm_us(authenticator: Authenticator, headers: list[bytes]) -> float:
    authenticate: Callable[..., Coroutine[Any, Any, object]] = authenticator.authenticate
    order = random.sample(headers, len(headers))
    started = time.thread_time()
    for header in order:
        await authenticate(header, ADDRESS)
    return (time.thread_time() - started) / len(order) * 1e6


def _scope_change_us() -> dict[str, float]:
    """What a statement costs more when it is in another scope than the one before."""
    more = []
    for _ in range(SCOPE_ROUNDS):
        same = _statements_us((1, 1))
        more.append(_statements_us((1, 2)) - same)
    return {"median": statistics.median(more), "least": min(more)}


def _statements_us(organizations: tuple[int, int]) -> float:
    started = time.perf_counter()
    for number in range(SCOPE_CHANGES):
        with (
            scope.entered(scope.Scope(organization=organizations[number % 2])),
            connection.cursor() as cursor,
        ):
            cursor.execute("SELECT 1")
    return (time.perf_counter() - started) / SCOPE_CHANGES * 1e6
