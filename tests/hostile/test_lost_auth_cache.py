"""OpenAI, October 2023: the cache of authentications was lost, and 60 to 70 % of calls failed.

Here Redis has no part in who somebody is, and a database that goes away takes nobody's known
key with it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from unittest import mock

import pytest
import redis
from django.db import OperationalError

from tenants import authentication
from tenants.authentication import AuthenticationUnavailable, Authenticator
from tenants.redis_link import RedisLink
from tests.api.management import Caller
from tests.cast import Cast, build_cast


@pytest.fixture
def committed(transactional_db: None) -> Cast:
    return build_cast()


@pytest.fixture
def no_redis() -> Iterator[list[str]]:
    """Whoever asks Redis is refused, and is on the list."""
    asked: list[str] = []

    def refuse(*_: object, **__: object) -> None:
        asked.append("sync")
        raise redis.ConnectionError("Redis is gone")

    async def refuse_async(*_: object, **__: object) -> None:
        asked.append("async")
        raise redis.ConnectionError("Redis is gone")

    with (
        mock.patch.object(redis.Connection, "connect", refuse),
        mock.patch.object(redis.client.Redis, "execute_command", refuse),
        mock.patch.object(RedisLink, "call", refuse_async),
        mock.patch.object(RedisLink, "run_script", refuse_async),
    ):
        yield asked


async def test_without_redis_every_key_is_known_as_before(
    committed: Cast, no_redis: list[str]
) -> None:
    authenticator = Authenticator()
    for _ in range(20):
        for key in (committed.owner_key, committed.stranger_key):
            assert await authenticator.authenticate(b"Bearer " + key.encode(), "203.0.113.7")

    assert no_redis == []


def test_without_redis_the_management_api_answers(committed: Cast, no_redis: list[str]) -> None:
    assert Caller(committed.owner_admin_key).get("/projects")["data"]


async def test_without_postgresql_known_keys_go_on_and_at_full_speed(
    committed: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(lookup: str, digest: bytes) -> None:
        raise OperationalError("the server closed the connection")

    authenticator = Authenticator()
    for key in (committed.owner_key, committed.stranger_key):
        await authenticator.authenticate(b"Bearer " + key.encode())
    monkeypatch.setattr(authentication, "get_principal", fail)
    authenticator._on_connected(False)
    authenticator._ttl_s = 0.0  # every entry is older than this
    started, failed = time.monotonic(), 0
    for number in range(1_000):
        key = (committed.owner_key, committed.stranger_key)[number % 2]
        try:
            await authenticator.authenticate(b"Bearer " + key.encode())
        except AuthenticationUnavailable:
            failed += 1

    assert failed == 0
    assert time.monotonic() - started < 2


async def test_a_thousand_callers_do_not_queue_behind_a_dead_database(
    committed: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that is refused takes its time: each caller waits for one at most."""
    asked: list[str] = []

    def fail(lookup: str, digest: bytes) -> None:
        asked.append(lookup)
        time.sleep(0.2)
        raise OperationalError("connection timeout expired")

    authenticator = Authenticator()
    await authenticator.authenticate(b"Bearer " + committed.owner_key.encode())
    authenticator._ttl_s = 0.0
    monkeypatch.setattr(authentication, "get_principal", fail)
    header = b"Bearer " + committed.owner_key.encode()
    started = time.monotonic()
    found = await asyncio.gather(*[authenticator.authenticate(header) for _ in range(1_000)])

    assert len(found) == 1_000
    assert len(asked) == 1
    assert time.monotonic() - started < 2
