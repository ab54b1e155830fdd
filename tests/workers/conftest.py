from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import redis
from django.conf import settings

from tests.workers.proxy import Proxy, proxied


@pytest.fixture
async def proxy(valkey: redis.Redis) -> AsyncIterator[Proxy]:
    """The suite's Redis, empty, behind a proxy that can be cut."""
    async with proxied(settings.REDIS_URL) as proxy:
        yield proxy
