from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import redis
from django.conf import settings

from tenants.admission import Admission
from tenants.redis_link import RedisLink


@pytest.fixture
async def link(valkey: redis.Redis) -> AsyncIterator[RedisLink]:
    """A link to the suite's Redis, which begins empty."""
    link = RedisLink(settings.REDIS_URL, timeout_s=5, name="test")
    yield link
    await link.aclose()


@pytest.fixture
def admission(link: RedisLink) -> Admission:
    return Admission(link, hold_expiry_s=900)
