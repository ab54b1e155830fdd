from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import redis
import redis.asyncio
from django.conf import settings

from tenants.admission import Admission


@pytest.fixture
async def client(valkey: redis.Redis) -> AsyncIterator[redis.asyncio.Redis]:
    """An asyncio client of the suite's Redis, which begins empty."""
    client = redis.asyncio.from_url(settings.REDIS_URL)
    yield client
    await client.aclose()


@pytest.fixture
def admission(client: redis.asyncio.Redis) -> Admission:
    return Admission(client, hold_expiry_s=900)
