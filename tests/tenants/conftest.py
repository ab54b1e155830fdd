from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import redis
from django.conf import settings
from django.db import connection

from tenants import actions
from tenants.admission import Admission
from tenants.models import Organization
from tenants.redis_link import RedisLink
from tests.cast import Cast
from tests.tenants.factory import Ledger


@pytest.fixture
async def link(valkey: redis.Redis) -> AsyncIterator[RedisLink]:
    """A link to the suite's Redis, which begins empty."""
    link = RedisLink(settings.REDIS_URL, timeout_s=5, name="test")
    yield link
    await link.aclose()


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest.fixture
def admission(link: RedisLink, ledger: Ledger) -> Admission:
    return Admission(link, hold_expiry_s=900, read_spent=ledger)


@pytest.fixture
def history(cast: Cast) -> Organization:
    """An organization with ten more events, beside another with its own."""
    for number in range(10):
        actions.create_project(cast.organization, f"P{number}", acting_user=cast.owner)
        actions.create_project(cast.other_organization, f"P{number}", acting_user=cast.stranger)
    return cast.organization


@pytest.fixture
def unguarded(history: Organization) -> Iterator[Callable[..., None]]:
    """Raw SQL as the tables' owner, who can turn every trigger off."""
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("ALTER TABLE tenants_auditevent DISABLE TRIGGER USER")

        def run(sql: str, *parameters: object) -> None:
            cursor.execute(sql, parameters)
            assert cursor.rowcount == 1

        yield run
