from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.conf import settings
from redis import Redis

from billing.collector import get_redis
from billing.usage import STREAM
from tests.billing.factory import Tenant, make_tenant


@pytest.fixture
def tenant(db: None) -> Tenant:
    return make_tenant("Acme")


@pytest.fixture
def stranger(db: None) -> Tenant:
    """Another organization, whose rows nobody of ``tenant`` may see."""
    return make_tenant("Other")


@pytest.fixture
def stream() -> Iterator[Redis]:
    """The Redis that holds the stream of usage reports, which begins and ends empty."""
    redis = get_redis(settings.REDIS_URL)
    redis.delete(STREAM)
    yield redis
    redis.delete(STREAM)
