"""Celery's messages read without Celery: from whoever wrote them, and none lost at the end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis
from django.conf import settings
from redis.exceptions import ResponseError

from config.celery import app
from inference import wire
from inference.dispatch.senders import KombuSender, envelope
from inference.wire import Sampling, Submission
from tenants.redis_link import RedisLink
from workers.engine.queue_reader import QueueReader

QUEUE = wire.queue_of("chat-9")


def submission(name: str) -> Submission:
    return Submission(name, 1, "gateway", "life", 1, 1, [1, 2], Sampling(), "salt", 0.0)


class OldRedis(RedisLink):
    """Redis 6, which does not know BLMPOP."""

    async def call(self, *parts: Any) -> Any:
        if parts[0] == "BLMPOP":
            raise ResponseError("ERR unknown command `BLMPOP`, with args beginning with: `1`")
        return await super().call(*parts)


@pytest.fixture
async def taken(valkey: redis.Redis) -> AsyncIterator[list[str]]:
    """Request ids in the order in which the reader got them."""
    yield []


def start(taken: list[str], kind: type[RedisLink] = RedisLink) -> QueueReader:
    link = kind(settings.REDIS_URL, timeout_s=5, name="reader")
    return QueueReader(link, QUEUE, lambda batch: taken.extend(each.request_id for each in batch))


async def until(taken: list[str], count: int) -> None:
    async with asyncio.timeout(10):
        while len(taken) < count:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("kind", [RedisLink, OldRedis])
async def test_batches_come_in_their_order(
    valkey: redis.Redis, taken: list[str], kind: type[RedisLink]
) -> None:
    for number in range(20):
        batch = [submission(f"{number}.0"), submission(f"{number}.1")]
        valkey.lpush(QUEUE, envelope(QUEUE, batch))
    reader = start(taken, kind)
    await until(taken, 40)
    valkey.lpush(QUEUE, envelope(QUEUE, [submission("later")]))
    await until(taken, 41)
    assert taken == [f"{n}.{c}" for n in range(20) for c in range(2)] + ["later"]
    await reader.stop()


async def test_what_kombu_wrote_is_read_too(valkey: redis.Redis, taken: list[str]) -> None:
    assert app.conf.broker_url == settings.REDIS_URL
    sender = KombuSender()
    sent = asyncio.get_running_loop().create_future()
    sender.send("chat-9", [submission("kombu")], sent.set_result)
    assert await sent
    await sender.close()
    reader = start(taken)
    await until(taken, 1)
    assert taken == ["kombu"]
    await reader.stop()


@pytest.mark.parametrize(
    "junk", [b"", b"{", b'{"body":1}', b'{"body":"!"}', b'{"body":"gaM="}', b'{"body":"wA=="}']
)
async def test_what_is_no_batch_is_logged_and_left(
    valkey: redis.Redis, taken: list[str], junk: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    valkey.lpush(QUEUE, junk, envelope(QUEUE, [submission("good")]))
    with caplog.at_level(logging.ERROR):
        reader = start(taken)
        await until(taken, 1)
    assert taken == ["good"]
    assert [record.message for record in caplog.records] == ["generate.undecodable"]
    await reader.stop()


async def test_nothing_is_taken_after_the_end_and_nothing_lost_at_it(
    valkey: redis.Redis, taken: list[str]
) -> None:
    reader = start(taken)
    valkey.lpush(QUEUE, envelope(QUEUE, [submission("first")]))
    await until(taken, 1)
    stopping = asyncio.create_task(reader.stop())
    # Its last look is under way, and takes this or leaves it to whoever comes next.
    valkey.lpush(QUEUE, envelope(QUEUE, [submission("second")]))
    await stopping
    assert len(taken) - 1 + valkey.llen(QUEUE) == 1
    valkey.lpush(QUEUE, envelope(QUEUE, [submission("third")]))
    await asyncio.sleep(0.05)
    assert "third" not in taken
