from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import redis
from django.conf import settings

from tenants.admission import Admission
from tenants.redis_link import RedisLink
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
