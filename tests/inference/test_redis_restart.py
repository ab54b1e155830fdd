"""Redis is killed and comes back with nothing: requests under way end as if it had not been."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis.asyncio
from django.conf import settings as django_settings

from config.celery import app
from inference.dispatch import Dispatcher
from inference.wire import mailbox_of
from tests.harness.own_valkey import OwnValkey
from tests.inference.callers import eventually, knows, make_job, read_ids, read_to_end
from tests.inference.peer import Peer, tokens


@pytest.fixture
async def own(
    tmp_path: Path, settings: object, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[OwnValkey]:
    own = await asyncio.to_thread(OwnValkey, tmp_path)
    settings.REDIS_URL = settings.CELERY_BROKER = own.url  # type: ignore[attr-defined]
    monkeypatch.setitem(app.conf, "broker_url", own.url)
    yield own
    await asyncio.to_thread(own.stop)


@pytest.fixture
async def gateway(own: OwnValkey) -> AsyncIterator[Dispatcher]:
    dispatcher = Dispatcher(own.url, secrets.token_hex(4))
    await dispatcher.start()
    yield dispatcher
    await dispatcher.stop()


async def test_a_redis_that_comes_back_empty_loses_no_request(
    own: OwnValkey, gateway: Dispatcher
) -> None:
    lost: list[bool] = []
    gateway.on_redis_lost = lambda: lost.append(True)
    client = redis.asyncio.from_url(own.url)
    async with Peer(client, "chat-1") as before:
        await knows(gateway, "chat-1")
        moving, queued = gateway.submit(make_job()), gateway.submit(make_job())
        taken = await before.take()
        await before.send(gateway.gateway, tokens(taken, 0, [1]))
        assert await read_ids(moving, 1) == [1]
    await client.aclose()
    await asyncio.to_thread(own.kill)  # with ``queued`` in it, or in a worker that never heard
    await asyncio.sleep(0.3)
    await asyncio.to_thread(own.restart)

    client = redis.asyncio.from_url(django_settings.REDIS_URL)
    after = Peer(client, "chat-1")  # the same life of the replica, with new connections
    after.incarnation, after.running = before.incarnation, 2
    async with after:
        await eventually(lambda: gateway.fleet.is_connected)
        while not await client.exists(mailbox_of(gateway.gateway)):
            await asyncio.sleep(0.02)
        await after.send(gateway.gateway, tokens(taken, 1, [2], "stop"))
        again = await after.take(timeout_s=20)
        assert again.request_id == queued.job.request_id and again.attempt == 2
        await after.send(gateway.gateway, tokens(again, 0, [7], "stop"))

        assert (await read_to_end(moving)).ids == [2] and moving.output_ids == [1, 2]
        assert (await read_to_end(queued)).ids == [7]
        fresh = gateway.submit(make_job())  # and whoever comes later is served
        await after.send(gateway.gateway, tokens(await after.take(), 0, [8], "stop"))
        assert (await read_to_end(fresh)).ids == [8]
    await client.aclose()
    assert gateway.in_flight == 0
    assert lost == [True], "whoever settles hears of it, once"
