"""Redis is away, and a gateway and a replica that know each other go on without it."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import redis
import redis.asyncio
from django.conf import settings as django_settings

from inference import bypass, wire
from inference.dispatch import Dispatcher
from inference.engine_protocol import EngineSpec
from inference.wire import Sampling
from tests.inference.callers import eventually, knows, make_job, read_ids, read_to_end
from tests.inference.peer import DEPLOYMENT
from tests.workers.proxy import Proxy, proxied
from workers.engine.host import EngineHost, ReplicaIdentity
from workers.engines.simulated import SimulatedEngine

LONG = Sampling(max_tokens=150)


@pytest.fixture
async def proxy(valkey: redis.Redis) -> AsyncIterator[Proxy]:
    async with proxied(django_settings.REDIS_URL) as proxy:
        yield proxy


@pytest.fixture
async def host(proxy: Proxy, tmp_path: Path, settings: object) -> AsyncIterator[EngineHost]:
    """A replica behind the proxy, fed from its queue as its Celery worker would do it."""
    profile = tmp_path / "profile.json"
    profile.write_text(json.dumps({"decode_ms": 10.0}))
    settings.SIMULATED_PROFILE = str(profile)  # type: ignore[attr-defined]
    spec = EngineSpec("tiny", "chat", "", "auto", 128, 8)
    host = EngineHost(SimulatedEngine(), spec, ReplicaIdentity("chat-1", DEPLOYMENT, 1), proxy.url)
    await asyncio.to_thread(host.start, 30)
    stop = asyncio.Event()
    feeding = asyncio.create_task(_feed(host, stop))
    yield host
    stop.set()
    await feeding
    await asyncio.to_thread(host.stop)


async def _feed(host: EngineHost, stop: asyncio.Event) -> None:
    async with redis.asyncio.from_url(django_settings.REDIS_URL) as client:
        while not stop.is_set():
            content = await client.lpop(wire.queue_of(host.identity.name))
            if content is None:
                await asyncio.sleep(0.01)
                continue
            body = msgspec.msgpack.decode(base64.b64decode(json.loads(content)["body"]))
            host.accept(wire.decode_submissions(body[0][0]))


@pytest.fixture
async def gateway(host: EngineHost, proxy: Proxy) -> AsyncIterator[Dispatcher]:
    dispatcher = Dispatcher(proxy.url, secrets.token_hex(4))
    await dispatcher.start()
    await knows(dispatcher, "chat-1")
    yield dispatcher
    await dispatcher.stop()


async def cut(proxy: Proxy, gateway: Dispatcher) -> None:
    await proxy.cut()
    await eventually(lambda: gateway.bypass.is_open)


async def test_what_runs_goes_on_and_what_comes_is_served(
    gateway: Dispatcher, host: EngineHost, proxy: Proxy
) -> None:
    begun = gateway.submit(make_job(LONG))
    assert await read_ids(begun, 5)
    await cut(proxy, gateway)
    await eventually(lambda: host._bypass.lines.keys() == {gateway.gateway})
    meanwhile = gateway.submit(make_job(LONG))
    answers = [await read_to_end(begun), await read_to_end(meanwhile)]
    assert [answer.finish_reason for answer in answers] == ["length", "length"]

    across = gateway.submit(make_job(LONG))  # begins by the line, ends by the mailbox
    assert await read_ids(across, 5)
    await proxy.mend()
    await eventually(lambda: not gateway.bypass.is_open and not host._bypass.lines)
    await read_to_end(across)
    after = gateway.submit(make_job(LONG))
    await read_to_end(after)

    # The same prompt has the same answer, whichever way its parts came.
    assert len(after.output_ids) == LONG.max_tokens
    assert begun.output_ids == meanwhile.output_ids == across.output_ids == after.output_ids
    assert {each.attempt for each in (meanwhile, after)} == {1}


async def test_what_redis_took_with_it_on_the_way_is_sent_again(
    gateway: Dispatcher, host: EngineHost, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its replica is busy with others and has never heard of it."""
    busy = gateway.submit(make_job(Sampling(max_tokens=400)))
    assert await read_ids(busy, 2)
    lost: list[object] = []
    accept = host.accept
    monkeypatch.setattr(host, "accept", lost.append)  # the queue's last message goes nowhere
    sequence = gateway.submit(make_job(Sampling(max_tokens=20)))
    await eventually(lambda: bool(lost))
    monkeypatch.setattr(host, "accept", accept)
    await cut(proxy, gateway)
    answer = await read_to_end(sequence, 3)
    await proxy.mend()
    assert len(answer.ids) == 20 and sequence.attempt == 2
    gateway.cancel(busy)


async def test_a_client_that_leaves_frees_the_engine_without_redis(
    gateway: Dispatcher, host: EngineHost, proxy: Proxy
) -> None:
    await cut(proxy, gateway)
    left = gateway.submit(make_job(Sampling(max_tokens=100_000)))
    assert await read_ids(left, 2)
    gateway.cancel(left)
    await eventually(lambda: not host._intake.running, 1)
    await proxy.mend()


async def test_a_line_that_breaks_is_a_replica_gone_until_it_is_back(
    gateway: Dispatcher, host: EngineHost, proxy: Proxy
) -> None:
    await cut(proxy, gateway)
    sequence = gateway.submit(make_job(LONG))
    assert await read_ids(sequence, 5)
    writer = host._bypass.lines[gateway.gateway]
    host._loop.call_soon_threadsafe(writer.transport.abort)
    await eventually(lambda: "chat-1" not in gateway.fleet.replicas)
    assert not gateway.has_replica([DEPLOYMENT])
    await read_to_end(sequence)  # parked, the line opened anew, continued from its tokens

    undisturbed = gateway.submit(make_job(LONG))
    await read_to_end(undisturbed)
    await proxy.mend()
    assert sequence.output_ids == undisturbed.output_ids and sequence.attempt > 1


@pytest.mark.parametrize(
    "said",
    [
        bypass.frame("hello", wire.encode(bypass.Hello("guessed", "gateway"))),
        bypass.frame("work", wire.encode([])),
        bypass.frame("hello", b"\xc1"),
        b"\xff\xff\xff\xff",
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
async def test_who_does_not_know_the_token_is_hung_up_on(host: EngineHost, said: bytes) -> None:
    address, _, _ = host._bypass.address.partition("/")
    name, _, port = address.partition(":")
    reader, writer = await asyncio.open_connection(name, int(port))
    writer.write(said)
    async with asyncio.timeout(5):
        assert await reader.read() == b""
    writer.close()
    assert host._bypass.lines == {}
