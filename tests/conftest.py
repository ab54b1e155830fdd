"""Fixtures of every room. ``live`` is the real thing, started once a run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.conf import settings
from django.test import TransactionTestCase
from redis import Redis

from tests.cast import Cast, build_cast
from tests.harness.database import empty_filled_tables
from tests.harness.platform import Platform


@pytest.fixture(scope="session", autouse=True)
def _emptying_is_cheap() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(TransactionTestCase, "_fixture_teardown", empty_filled_tables)
        yield


@pytest.fixture
def cast(db: None) -> Cast:
    """Owner, member, viewer, stranger of another organization, suspended, staff."""
    return build_cast()


@pytest.fixture
def valkey() -> Iterator[Redis]:
    """The suite's Redis, empty before and after."""
    client = Redis.from_url(settings.REDIS_URL)
    client.flushdb()
    yield client
    client.flushdb()
    client.close()


@pytest.fixture(scope="session")
def live() -> Iterator[Platform]:
    """The platform with real vLLM: one chat and one embedding replica."""
    platform = Platform(ENGINE="vllm")
    try:
        yield platform.start()
    finally:
        platform.stop()


@pytest.fixture(scope="session")
def simulated() -> Iterator[Platform]:
    """The platform on the simulated engine: two chat replicas, answers at once."""
    platform = Platform(ENGINE="simulated", CHAT_REPLICAS="2")
    try:
        yield platform.start()
    finally:
        platform.stop()
