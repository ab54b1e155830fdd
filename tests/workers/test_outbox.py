"""Deltas on their way back: together, in order, and never lost while Redis is away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import pytest
import redis

from inference import wire
from inference.wire import Delta, WorkerUsage
from tenants.redis_link import RedisLink
from tests.workers.proxy import Proxy
from workers.engine import outbox as outboxes
from workers.engine.outbox import Outbox


class Gateways:
    """Mailboxes that exist, and what lies in them."""

    def __init__(self, valkey: redis.Redis):
        self._valkey = valkey

    def open(self, name: str) -> None:
        self._valkey.xadd(wire.mailbox_of(name), {b"hello": b"1"})

    def messages(self, name: str) -> list[list[Delta]]:
        return [
            wire.decode_deltas(fields[b"d"])
            for _, fields in self._valkey.xrange(wire.mailbox_of(name))
            if b"d" in fields
        ]

    def offsets(self, name: str) -> list[int]:
        return [delta.offset for message in self.messages(name) for delta in message]


@pytest.fixture
def gateways(valkey: redis.Redis) -> Gateways:
    return Gateways(valkey)


@pytest.fixture
def gone() -> list[str]:
    """Gateways that the outbox declared dead."""
    return []


@pytest.fixture
async def outbox(proxy: Proxy, gone: list[str]) -> AsyncIterator[Outbox]:
    link = RedisLink(proxy.url, timeout_s=2, name="outbox")
    outbox = Outbox(link, gone.append)
    task = asyncio.create_task(outbox.run())
    yield outbox
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await link.aclose()


def delta(offset: int, request_id: str = "req-1/0.0") -> Delta:
    return Delta(request_id, 1, offset, [offset], f"{offset} ")


def usage(request_id: str = "req-1/0.0") -> WorkerUsage:
    return WorkerUsage(request_id, 3, 0, 5, "stop", "chat-1", time.time())


async def eventually(condition: Callable[[], bool], timeout_s: float = 15) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        await asyncio.sleep(0.01)


async def test_deltas_of_one_moment_leave_in_one_message_for_each_gateway(
    outbox: Outbox, gateways: Gateways
) -> None:
    for name in ("a", "b"):
        gateways.open(name)
    for offset in range(100):
        outbox.put("a", delta(offset))
        outbox.put("b", delta(offset))
    await outbox.drained(10)

    for name in ("a", "b"):
        assert gateways.offsets(name) == list(range(100))
        assert len(gateways.messages(name)) == 1


async def test_deltas_that_come_during_a_write_leave_together_in_the_next(
    outbox: Outbox, gateways: Gateways
) -> None:
    gateways.open("a")
    outbox.put("a", delta(0))
    await asyncio.sleep(0)  # the first write has begun
    for offset in range(1, 50):
        outbox.put("a", delta(offset))
    await outbox.drained(10)

    assert gateways.offsets("a") == list(range(50))
    assert len(gateways.messages("a")) <= 2


async def test_what_a_finished_sequence_used_is_noted_beside_its_last_delta(
    outbox: Outbox, gateways: Gateways, valkey: redis.Redis
) -> None:
    gateways.open("a")
    outbox.put("a", delta(0), usage())
    await outbox.drained(10)

    ((_, fields),) = valkey.xrange(wire.WORKER_USAGE)
    assert wire.decode_worker_usage(fields[b"u"])[0].completion_tokens == 5


async def test_while_redis_is_away_nothing_is_lost_or_put_out_of_order(
    outbox: Outbox, gateways: Gateways, proxy: Proxy, valkey: redis.Redis
) -> None:
    gateways.open("a")
    outbox.put("a", delta(0))
    await outbox.drained(10)
    await proxy.cut()
    for offset in range(1, 20):
        outbox.put("a", delta(offset), usage() if offset == 19 else None)
        await asyncio.sleep(0.01)
    assert gateways.offsets("a") == [0]
    await proxy.mend()
    await outbox.drained(15)

    assert gateways.offsets("a") == list(range(20))
    assert valkey.xlen(wire.WORKER_USAGE) == 1


async def test_what_comes_while_a_write_hangs_goes_out_behind_it(
    outbox: Outbox, gateways: Gateways, proxy: Proxy
) -> None:
    gateways.open("a")
    outbox.put("a", delta(0))
    await outbox.drained(10)
    proxy.hang()
    for offset in range(1, 20):
        outbox.put("a", delta(offset))
        await asyncio.sleep(0.005)
    await proxy.cut()
    await proxy.mend()
    await outbox.drained(15)

    assert gateways.offsets("a") == list(range(20))


async def test_a_mailbox_that_comes_back_in_time_gets_everything(
    outbox: Outbox, gateways: Gateways, gone: list[str]
) -> None:
    for offset in range(10):
        outbox.put("a", delta(offset))
        await asyncio.sleep(0.02)
    gateways.open("a")
    await eventually(lambda: len(gateways.offsets("a")) == 10)

    assert gateways.offsets("a") == list(range(10))
    assert gone == []


async def test_a_gateway_without_a_mailbox_is_declared_dead_after_the_grace(
    outbox: Outbox, gone: list[str], valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outboxes, "GATEWAY_GRACE_S", 0.5)
    put_at = time.monotonic()
    outbox.put("dead", delta(0))
    await eventually(lambda: gone == ["dead"])

    assert time.monotonic() - put_at >= 0.5
    assert not valkey.exists(wire.mailbox_of("dead"))  # no stream that nobody will read
    await outbox.drained(5)
    assert outbox._pending == {}


async def test_a_dead_gateway_delays_nobody_else(
    outbox: Outbox, gateways: Gateways, gone: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outboxes, "UNREAD_RETRY_S", 60.0)  # were the others to wait, they would
    gateways.open("alive")
    for offset in range(20):
        outbox.put("dead", delta(offset))
        outbox.put("alive", delta(offset))
        await eventually(lambda count=offset + 1: len(gateways.offsets("alive")) == count, 5)

    assert gateways.offsets("alive") == list(range(20))
    assert gone == []


async def test_a_full_outbox_keeps_the_end_of_every_sequence(
    outbox: Outbox, gateways: Gateways, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its reader sees the gap and goes elsewhere; with nothing, it would wait for ever."""
    monkeypatch.setattr(outboxes, "MOST_BUFFERED_DELTAS", 100)
    gateways.open("a")
    await proxy.cut()
    for offset in range(250):
        for request in ("req-1/0.0", "req-2/0.0"):
            outbox.put("a", delta(offset, request))
        if offset % 50 == 0:
            await asyncio.sleep(0.06)  # a write fails and is put back in between
        assert outbox._buffered <= 102
    await proxy.mend()
    await outbox.drained(15)

    last = {each.request_id: each.offset for message in gateways.messages("a") for each in message}
    assert last == {"req-1/0.0": 249, "req-2/0.0": 249}


async def test_what_cannot_be_delivered_does_not_hold_up_the_end(
    outbox: Outbox, proxy: Proxy
) -> None:
    await proxy.cut()
    outbox.put("a", delta(0))
    started = time.monotonic()
    await outbox.drained(0.3)

    assert time.monotonic() - started < 5
