"""The staff page of what every gateway's dispatcher does."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
import redis
import redis.asyncio
from django.conf import settings
from django.test import Client
from django.urls import reverse

from inference.dispatch import Dispatcher, live
from tests.cast import Cast, build_cast
from tests.inference.callers import knows, make_job
from tests.inference.peer import Peer
from tests.tenants.database import in_thread

PAGE = "admin:inference_replica_live_dispatch"


@pytest.fixture(scope="module", autouse=True)
def static_folder() -> None:
    """WhiteNoise warns about a missing one; `collectstatic` makes it in an installation."""
    Path(settings.STATIC_ROOT).mkdir(parents=True, exist_ok=True)


def read(user: str) -> tuple[int, str]:
    cast: Cast = build_cast()
    client = Client()
    client.force_login(getattr(cast, user))
    answer = client.get(reverse(PAGE))
    return answer.status_code, answer.content.decode()


@pytest.mark.django_db(transaction=True)
async def test_staff_see_batches_decisions_and_scores(
    dispatcher: Dispatcher, client: redis.asyncio.Redis
) -> None:
    async with Peer(client, "chat-1") as peer:
        await knows(dispatcher, "chat-1")
        job = make_job()
        dispatcher.submit(job)
        await peer.take()
        other = Dispatcher(settings.REDIS_URL, "another")
        await other.start()
        try:
            await said(client, dispatcher, job.request_id)
            await said(client, other, "another")
            status, page = await in_thread(read, "staff")
        finally:
            await other.stop()

    assert status == 200
    for shown in (
        "Gateway another",
        dispatcher.gateway,
        job.request_id,
        "scored",
        "chat-1",
        "latency",
        "empty",
    ):
        assert shown in page, shown


async def said(client: redis.asyncio.Redis, dispatcher: Dispatcher, what: str) -> None:
    """Wait until a gateway's own words hold ``what``."""
    deadline = time.monotonic() + 10
    while what.encode() not in (await client.get(live.key_of(dispatcher.gateway)) or b""):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


@pytest.mark.django_db
def test_without_a_gateway_it_says_so(valkey: redis.Redis) -> None:
    valkey.zadd(live.GATEWAYS, {"stopped": time.time(), "of-another-release": time.time()})
    valkey.set(live.key_of("of-another-release"), b"\x01")
    status, page = read("staff")
    assert status == 200 and "No gateway says anything." in page


@pytest.mark.django_db
def test_without_redis_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "REDIS_URL", "redis://127.0.0.1:1/0")
    status, page = read("staff")
    assert status == 200 and "Redis does not answer" in page


@pytest.mark.django_db
@pytest.mark.parametrize("user", ["owner", "stranger"])
def test_customers_see_nothing_of_it(user: str) -> None:
    status, page = read(user)
    assert status in (302, 403, 404) and "Gateway" not in page
