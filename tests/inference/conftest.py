from __future__ import annotations

import secrets
from collections.abc import AsyncIterator

import pytest
import redis
import redis.asyncio
from django.conf import settings

from inference.dispatch import Dispatcher


@pytest.fixture
async def client(valkey: redis.Redis) -> AsyncIterator[redis.asyncio.Redis]:
    """An asyncio client of the suite's Redis, which begins empty."""
    client = redis.asyncio.from_url(settings.REDIS_URL)
    yield client
    await client.aclose()


@pytest.fixture
async def dispatcher(valkey: redis.Redis) -> AsyncIterator[Dispatcher]:
    dispatcher = Dispatcher(settings.REDIS_URL, secrets.token_hex(4))
    await dispatcher.start()
    yield dispatcher
    await dispatcher.stop()
