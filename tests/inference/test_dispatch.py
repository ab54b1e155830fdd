"""The dispatcher over the real broker and mailbox: batches out, one unbroken stream back."""

from __future__ import annotations

import asyncio

import pytest
import redis
import redis.asyncio
from django.conf import settings

from inference import wire
from inference.dispatch import Dispatcher
from inference.dispatch.aborts import ABORTS_EXPIRY_MS
from inference.errors import InvalidRequest, NoReplica, Overloaded, RequestFailed
from inference.wire import Delta, Sampling
from tests.inference.callers import (
    eventually,
    knows,
    make_job,
    make_served,
    read_ids,
    read_to_end,
)
from tests.inference.peer import Peer, error, tokens


async def test_a_stream_comes_back_as_it_was_sent(
    dispatcher: Dispatcher, client: redis.asyncio.Redis
) -> None:
    async with Peer(client, "chat-1") as peer:
        await knows(dispatcher, "chat-1")
        job = make_job(Sampling(max_tokens=3, temperature=0.5))
        sequence = dispatcher.submit(job)
        taken = await peer.take()

        assert (taken.request_id, taken.attempt, taken.offset) == (job.request_id, 1, 0)
        assert taken.prompt_ids == job.prompt_ids and taken.sampling == job.sampling
        assert (taken.gateway, taken.incarnation) == (dispatcher.gateway, peer.incarnation)
        await peer.send(dispatcher.gateway, tokens(taken, 0, [1]))
        await peer.send(dispatcher.gateway, tokens(taken, 1, [2, 3], "length"))
        answer = await read_to_end(sequence)

    assert (answer.ids, answer.text, answer.finish_reason) == ([1, 2, 3], "1 2 3 ", "length")
    assert dispatcher.in_flight == 0
    assert all(replica.in_flight == 0 for replica in dispatcher.fleet.replicas.values())


async def test_an_embedding_comes_back_whole(
    dispatcher: Dispatcher, client: redis.asyncio.Redis
) -> None:
    async with Peer(client, "embed-1") as peer:
        await knows(dispatcher, "embed-1")
        sequence = dispatcher.submit(make_job(None))
        taken = await peer.take()
        assert taken.sampling is None
        vector = Delta(taken.request_id, 1, 0, [], "", finish_reason="stop", embedding=b"\0" * 8)
        await peer.send(dispatcher.gateway, vector)

        assert (await sequence.next_output()).embedding == b"\0" * 8


async def test_a_slow_caller_gets_everything_in_one_part(
    dispatcher: Dispatcher, client: redis.asyncio.Redis
) -> None:
    async with Peer(client, "chat-1") as peer:
        await knows(dispatcher, "chat-1")
        sequence = dispatcher.submit(make_job())
        taken = await peer.take()
        for offset in range(10):
            await peer.send(dispatcher.gateway, tokens(taken, offset, [offset]))
        await eventually(lambda: len(sequence.output_ids) == 10)

        output = await sequence.next_output()
    assert output.token_ids == list(range(10)) == sequence.output_ids
    assert output.text == "".join(f"{number} " for number in range(10))


async def test_submissions_that_come_while_one_is_published_leave_together(
    dispatcher: Dispatcher, client: redis.asyncio.Redis
) -> None:
    async with Peer(client, "chat-1") as peer:
        await knows(dispatcher, "chat-1")
        jobs = [make_job() for _ in range(41)]
        for job in jobs:  # one moment of the event loop: the first is still being published
            dispatcher.submit(job)
        taken = []
        while len(taken) < len(jobs):
            taken += await peer.take_batch()

    assert [submission.request_id for submission in taken] == [job.request_id for job in jobs]
    assert len(peer.messages) == 6  # the first alone, then five of the profile's eight
    assert max(map(len, peer.messages)) == 8


async def test_where_no_place_is_free_arrivals_wait_for_each_other(
    dispatcher: Dispatcher, client: redis.asyncio.Redis
) -> None:
    async with Peer(client, "chat-1") as peer:
        peer.running = 100  # of 64 places
        await eventually(
            lambda: (
                "chat-1" in dispatcher.fleet.replicas
                and dispatcher.fleet.replicas["chat-1"].running == 100
            )
        )
        for _ in range(40):  # how fast they come must be learned first
            dispatcher.submit(make_job())
            await asyncio.sleep(0.005)
        taken = 0
        while taken < 40:
            taken += len(await peer.take_batch())

    assert max(map(len, peer.messages)) > 2
    waits = [record.waited_s for record in dispatcher.recent_batches]
    assert 0.01 < max(waits) < 0.2


async def test_a_message_has_a_bound_of_tokens_too(
    dispatcher: Dispatcher, client: redis.asyncio.Redis
) -> None:
    async with Peer(client, "chat-1") as peer:
        await knows(dispatcher, "chat-1")
        for _ in range(5):
            dispatcher.submit(make_job(prompt_ids=[1] * 15_000))
        sizes = [len(await peer.take_batch()) for _ in range(3)]

    assert sizes == [1, 2, 2]  # two prompts fit under 32,768 tokens, three do not


async def test_without_a_replica_nothing_begins(dispatcher: Dispatcher) -> None:
    with pytest.raises(NoReplica) as refusal:
        dispatcher.submit(make_job())

    assert refusal.value.status == 503
    assert dispatcher.in_flight == 0


@pytest.mark.parametrize("state", ["starting", "draining"])
async def test_a_replica_that_is_not_ready_gets_nothing(
    dispatcher: Dispatcher, client: redis.asyncio.Redis, state: str
) -> None:
    async with Peer(client, "chat-1") as peer:
        peer.state = state
        await eventually(
            lambda: [view.state for view in dispatcher.fleet.replicas.values()] == [state]
        )
        with pytest.raises(NoReplica):
            dispatcher.submit(make_job())


async def test_a_second_deployment_answers_when_the_first_has_no_replica(
    dispatcher: Dispatcher, client: redis.asyncio.Redis
) -> None:
    async with Peer(client, "chat-2", deployment=2) as peer:
        await knows(dispatcher, "chat-2")
        sequence = dispatcher.submit(make_job(candidates=(make_served(1), make_served(2))))
        await peer.take()

    assert sequence.served is not None and sequence.served.deployment == 2


async def test_what_comes_twice_is_dropped(
    dispatcher: Dispatcher, client: redis.asyncio.Redis
) -> None:
    async with Peer(client, "chat-1") as peer:
        await knows(dispatcher, "chat-1")
        sequence = dispatcher.submit(make_job())
        taken = await peer.take()
        first, second = tokens(taken, 0, [1, 2]), tokens(taken, 2, [3])
        last = tokens(taken, 3, [4], "stop")
        await peer.send(dispatcher.gateway, first, second)
        await peer.send(dispatcher.gateway, first, second, last, last)
        answer = await read_to_end(sequence)

    assert (answer.ids, answer.text) == ([1, 2, 3, 4], "1 2 3 4 ")


async def test_deltas_of_an_attempt_that_was_given_up_are_void(
    dispatcher: Dispatcher, client: redis.asyncio.Redis
) -> None:
    async with Peer(client, "chat-1") as first, Peer(client, "chat-2") as second:
        await knows(dispatcher, "chat-1", "chat-2")
        peers = {"chat-1": first, "chat-2": second}
        sequence = dispatcher.submit(make_job())
        old = peers.pop(sequence.replica)
        taken = await old.take()
        await old.send(dispatcher.gateway, error(taken, "replica_stopping"))
        (new,) = peers.values()
        taken_again = await new.take()
        await old.send(dispatcher.gateway, tokens(taken, 0, [66, 66], "stop"))
        await new.send(dispatcher.gateway, tokens(taken_again, 0, [1], "stop"))

        assert (await read_to_end(sequence)).ids == [1]


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("invalid_parameters", InvalidRequest),
        ("aborted", RequestFailed),
        ("something_new", RequestFailed),
        ("overloaded", Overloaded),
        ("engine_error", RequestFailed),
    ],
)
async def test_a_refusal_that_no_other_replica_could_mend_ends_the_request(
    dispatcher: Dispatcher, client: redis.asyncio.Redis, reason: str, expected: type[Exception]
) -> None:
    async with Peer(client, "chat-1") as peer:
        await knows(dispatcher, "chat-1")
        sequence = dispatcher.submit(make_job())
        await peer.send(dispatcher.gateway, error(await peer.take(), reason))
        with pytest.raises(expected):
            await read_to_end(sequence)

    assert dispatcher.in_flight == 0


async def test_a_cancelled_sequence_is_aborted_by_its_engine_id(
    dispatcher: Dispatcher, client: redis.asyncio.Redis
) -> None:
    async with Peer(client, "chat-1") as peer:
        await knows(dispatcher, "chat-1")
        sequence = dispatcher.submit(make_job())
        taken = await peer.take()
        await peer.send(dispatcher.gateway, tokens(taken, 0, [1]))
        await read_ids(sequence, 1)
        dispatcher.cancel(sequence)
        dispatcher.cancel(sequence)  # safe at any time

        assert await peer.aborted() == [taken.engine_id]
        await peer.send(dispatcher.gateway, tokens(taken, 1, [2], "stop"))
        await asyncio.sleep(0.1)
    assert sequence.output_ids == [1]
    assert dispatcher.in_flight == dispatcher.fleet.replicas["chat-1"].in_flight == 0


async def test_aborts_of_a_replica_that_never_returns_expire(
    dispatcher: Dispatcher, client: redis.asyncio.Redis, valkey: redis.Redis
) -> None:
    async with Peer(client, "chat-1") as peer:
        await knows(dispatcher, "chat-1")
        sequence = dispatcher.submit(make_job())
        await peer.take()
        dispatcher.cancel(sequence)
        await peer.aborted()
        await eventually(lambda: 0 < valkey.pttl(wire.control_of("chat-1")) <= ABORTS_EXPIRY_MS)


async def test_a_finished_sequence_is_not_aborted(
    dispatcher: Dispatcher, client: redis.asyncio.Redis, valkey: redis.Redis
) -> None:
    async with Peer(client, "chat-1") as peer:
        await knows(dispatcher, "chat-1")
        sequence = dispatcher.submit(make_job())
        await peer.send(dispatcher.gateway, tokens(await peer.take(), 0, [1], "stop"))
        await read_to_end(sequence)
        dispatcher.cancel(sequence)
        await asyncio.sleep(0.1)

    assert not valkey.exists(wire.control_of("chat-1"))


async def test_what_was_cancelled_before_it_left_never_leaves(
    dispatcher: Dispatcher, client: redis.asyncio.Redis
) -> None:
    async with Peer(client, "chat-1") as peer:
        await knows(dispatcher, "chat-1")
        first, second, third = (dispatcher.submit(make_job()) for _ in range(3))
        dispatcher.cancel(second)  # the first is being published, this one waits for it
        batches = [await peer.take_batch(), await peer.take_batch()]

        assert [[each.request_id for each in batch] for batch in batches] == [
            [first.job.request_id], [third.job.request_id],
        ]  # fmt: skip
        assert await peer.is_idle()


async def test_nonsense_in_the_mailbox_harms_nobody(
    dispatcher: Dispatcher, client: redis.asyncio.Redis
) -> None:
    mailbox = wire.mailbox_of(dispatcher.gateway)
    async with Peer(client, "chat-1") as peer:
        await knows(dispatcher, "chat-1")
        sequence = dispatcher.submit(make_job())
        taken = await peer.take()
        await client.xadd(mailbox, {b"d": b"\xc1 no message pack"})
        await client.xadd(mailbox, {b"d": wire.encode({"an": "object"})})
        await client.xadd(wire.HEARTBEATS, {b"h": b"\xc1"})
        await client.xadd(wire.HEARTBEATS, {b"other": b""})
        stray = Delta("req-nobody/0.0", 1, 0, [1], "1 ")
        await peer.send(dispatcher.gateway, stray, tokens(taken, 0, [1], "stop"))

        assert (await read_to_end(sequence)).ids == [1]
        await peer.restart()
        await eventually(
            lambda: dispatcher.fleet.replicas["chat-1"].incarnation == peer.incarnation
        )


async def test_after_redis_lost_everything_the_mailbox_and_the_queues_come_back(
    dispatcher: Dispatcher, client: redis.asyncio.Redis, valkey: redis.Redis
) -> None:
    mailbox = wire.mailbox_of(dispatcher.gateway)
    async with Peer(client, "chat-1") as peer:
        await knows(dispatcher, "chat-1")
        dispatcher.submit(make_job())
        await peer.take()
        valkey.flushall()
        await eventually(lambda: bool(valkey.exists(mailbox)))
        assert 0 < valkey.pttl(mailbox) <= 15_000

        sequence = dispatcher.submit(make_job())
        taken = await peer.take()
        await peer.send(dispatcher.gateway, tokens(taken, 0, [7], "stop"))
        assert (await read_to_end(sequence)).ids == [7]


async def test_a_stopped_dispatcher_leaves_no_mailbox(valkey: redis.Redis) -> None:
    dispatcher = Dispatcher(settings.REDIS_URL, "short-lived")
    await dispatcher.start()
    assert valkey.exists(wire.mailbox_of("short-lived"))
    await dispatcher.stop()

    assert not valkey.exists(wire.mailbox_of("short-lived"))
