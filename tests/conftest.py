"""Fixtures of every room. ``live`` is the real thing, started once a run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.conf import settings
from django.test import TransactionTestCase
from redis import Redis

from tenants.outbound import resolving
from tests.cast import Cast, build_cast
from tests.harness.database import empty_filled_tables
from tests.harness.platform import Platform


@pytest.fixture(scope="session", autouse=True)
def _emptying_is_cheap() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(TransactionTestCase, "_fixture_teardown", empty_filled_tables)
        yield


@pytest.fixture(scope="session", autouse=True)
def _reserved_names_lead_outside() -> Iterator[None]:
    """Names of RFC 2606, which tests save as addresses of tenants: no resolver is asked."""
    ask_system = resolving.ask_system

    def ask(host: str, port: int) -> list[str]:
        is_reserved = host.endswith((".test", ".example", ".example.com", ".example.org"))
        return ["93.184.215.14"] if is_reserved else ask_system(host, port)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(resolving, "ask_system", ask)
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
