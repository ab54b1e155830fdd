"""How batches reach a replica's queue, by either sender, and what happens when they do not."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator

import pytest
import redis
import redis.asyncio
from django.conf import settings as django_settings

from config.celery import app
from inference import wire
from inference.dispatch import Dispatcher
from inference.dispatch.senders import KombuSender, RedisSender, Sender, make_sender
from inference.errors import InferenceError
from inference.wire import Sampling, Submission
from tenants.redis_link import RedisLink
from tests.inference.callers import knows, make_job, read_ids, read_to_end
from tests.inference.peer import Peer, tokens
from tests.workers.factory import make_submission
from tests.workers.proxy import proxied

# Everything that JSON, base64 or MessagePack could bend on its way.
ODD = make_submission(
    organization=2**53,
    sampling=Sampling(
        max_tokens=7, stop=["é\u2028\0", '"]}'], logit_bias={5: -1.5}, structured={"json": {"a": 1}}
    ),
)


@pytest.fixture
async def link(valkey: redis.Redis) -> AsyncIterator[RedisLink]:
    link = RedisLink(django_settings.REDIS_URL, timeout_s=5, name="test")
    yield link
    await link.aclose()


@pytest.fixture
async def senders(link: RedisLink) -> AsyncIterator[dict[str, Sender]]:
    senders: dict[str, Sender] = {"redis": RedisSender(link), "kombu": KombuSender()}
    yield senders
    for sender in senders.values():
        await sender.close()


@pytest.fixture
def dead_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Celery's broker is another one than Redis, and it is away."""
    nowhere = "redis://127.0.0.1:1/0"
    monkeypatch.setattr(django_settings, "CELERY_BROKER", nowhere)
    monkeypatch.setattr(app.amqp, "_producer_pool", None)
    monkeypatch.setitem(app.conf, "broker_write_url", nowhere)


async def send(sender: Sender, batch: list[Submission]) -> bool:
    done = asyncio.get_running_loop().create_future()
    sender.send("chat-1", batch, done.set_result)
    return await asyncio.wait_for(done, 20)


@pytest.mark.parametrize("kind", ["redis", "kombu"])
async def test_a_batch_arrives_as_it_was_sent(
    senders: dict[str, Sender], client: redis.asyncio.Redis, kind: str
) -> None:
    batch = [ODD, make_submission(), make_submission(sampling=None)]
    async with Peer(client, "chat-1") as peer:
        assert await send(senders[kind], batch)

        assert await peer.take_batch() == batch


async def test_both_senders_write_the_same_envelope(
    senders: dict[str, Sender], valkey: redis.Redis
) -> None:
    written = {}
    for kind, sender in senders.items():
        assert await send(sender, [ODD])
        content = json.loads(valkey.lpop(wire.queue_of("chat-1")))
        own = content["headers"]["id"]
        assert content["properties"]["correlation_id"] == own == content["headers"]["root_id"]
        written[kind] = content

    direct, celery = written["redis"], written["kombu"]
    assert direct["body"] == celery["body"]
    for name in ("content-type", "content-encoding"):
        assert direct[name] == celery[name]
    assert direct["properties"]["body_encoding"] == celery["properties"]["body_encoding"]
    assert {"task", "lang", "retries", "eta", "expires"} <= set(direct["headers"])
    for name in set(direct["headers"]) - {"id", "root_id"}:
        assert direct["headers"][name] == celery["headers"].get(name), name


async def test_prompts_are_in_the_body_only(
    senders: dict[str, Sender], valkey: redis.Redis
) -> None:
    """Headers and properties are what brokers and their tools log."""
    for sender in senders.values():
        await send(sender, [ODD])
        content = json.loads(valkey.lpop(wire.queue_of("chat-1")))
        del content["body"]
        assert ODD.request_id not in json.dumps(content)
        assert "prompt" not in json.dumps(content)


def test_another_broker_is_reached_through_kombu(valkey: redis.Redis, settings: object) -> None:
    async def kind_for(broker: str) -> type:
        settings.CELERY_BROKER = broker  # type: ignore[attr-defined]
        sender = make_sender(RedisLink(django_settings.REDIS_URL, timeout_s=5, name="test"))
        await sender.close()
        return type(sender)

    assert asyncio.run(kind_for("amqp://elsewhere")) is KombuSender
    assert asyncio.run(kind_for(django_settings.REDIS_URL)) is RedisSender


async def test_a_broker_that_is_away_is_an_error_and_not_a_wait(
    dead_broker: None, dispatcher: Dispatcher, client: redis.asyncio.Redis
) -> None:
    async with Peer(client, "chat-1") as peer:
        await knows(dispatcher, "chat-1")
        started = time.monotonic()
        sequences = [dispatcher.submit(make_job()) for _ in range(3)]
        for sequence in sequences:
            with pytest.raises(InferenceError) as refusal:
                await read_to_end(sequence, 60)
            assert refusal.value.status == 503

        assert time.monotonic() - started < 60
        assert dispatcher.in_flight == 0
        assert await peer.is_idle(0.1)


async def test_requests_ride_out_a_redis_that_goes_away_for_a_moment(
    client: redis.asyncio.Redis,
) -> None:
    """Tokens that were made meanwhile are in the mailbox; a new request is told to come again."""
    async with proxied(django_settings.REDIS_URL) as proxy, Peer(client, "chat-1") as peer:
        dispatcher = Dispatcher(proxy.url, "cut-off")
        await dispatcher.start()
        await knows(dispatcher, "chat-1")
        sequence = dispatcher.submit(make_job())
        taken = await peer.take()
        await peer.send("cut-off", tokens(taken, 0, [1]))
        assert await read_ids(sequence, 1) == [1]  # the broker's answer has come too
        await proxy.cut()
        await peer.send("cut-off", tokens(taken, 1, [2]))
        refused = dispatcher.submit(make_job())
        with pytest.raises(InferenceError) as refusal:
            await read_to_end(refused)
        assert refusal.value.status == 503
        await proxy.mend()
        await peer.send("cut-off", tokens(taken, 2, [3], "stop"))

        assert (await read_to_end(sequence)).ids == [2, 3]
        assert sequence.attempt == 1
        await dispatcher.stop()
