"""A replica fails in the middle: the caller sees one unbroken stream, or an honest error."""

from __future__ import annotations

import asyncio
import time

import pytest
import redis
import redis.asyncio

from inference.dispatch import Dispatcher, Sequence
from inference.dispatch import dispatcher as dispatching
from inference.errors import NoReplica, Overloaded, RequestFailed, RequestTimedOut
from inference.wire import Sampling, Submission
from tests.inference.callers import eventually, knows, make_job, read_ids, read_to_end
from tests.inference.peer import Peer, error, tokens

CANNOT_CONTINUE = {
    "seed": Sampling(max_tokens=10, seed=7),
    "presence penalty": Sampling(max_tokens=10, presence_penalty=0.5),
    "two penalties": Sampling(max_tokens=10, frequency_penalty=0.5, repetition_penalty=1.1),
    "grammar": Sampling(max_tokens=10, structured={"regex": "a+"}),
}


class Pair:
    """Two replicas; a sequence runs on ``old``, then on ``new``."""

    def __init__(self, one: Peer, other: Peer):
        self._peers = {one.name: one, other.name: other}

    def split(self, sequence: Sequence) -> tuple[Peer, Peer]:
        old = self._peers[sequence.replica]
        (new,) = (peer for peer in self._peers.values() if peer is not old)
        return old, new


@pytest.fixture
async def pair(client: redis.asyncio.Redis, dispatcher: Dispatcher):  # type: ignore[no-untyped-def]
    async with Peer(client, "chat-1") as one, Peer(client, "chat-2") as other:
        await knows(dispatcher, "chat-1", "chat-2")
        yield Pair(one, other)


async def started(
    dispatcher: Dispatcher, pair: Pair, sampling: Sampling | None = None
) -> tuple[Sequence, Submission, Peer, Peer]:
    """A sequence that gave its caller tokens 1 and 2 on the old replica."""
    sequence = dispatcher.submit(make_job(sampling or Sampling(max_tokens=10, min_tokens=3)))
    old, new = pair.split(sequence)
    taken = await old.take()
    await old.send(dispatcher.gateway, tokens(taken, 0, [1, 2]))
    assert await read_ids(sequence, 2) == [1, 2]
    return sequence, taken, old, new


async def assert_continued(
    dispatcher: Dispatcher, sequence: Sequence, before: Submission, new: Peer
) -> None:
    """It goes on from the prompt and what arrived, and ends as if nothing had happened."""
    taken = await new.take()
    assert taken.request_id == before.request_id
    assert taken.attempt == 2 and taken.offset == 2
    assert taken.prompt_ids == [*before.prompt_ids, 1, 2]
    assert taken.sampling is not None
    assert (taken.sampling.max_tokens, taken.sampling.min_tokens) == (8, 1)
    assert taken.incarnation == new.incarnation
    await new.send(dispatcher.gateway, tokens(taken, 2, [3]), tokens(taken, 3, [4], "stop"))
    answer = await read_to_end(sequence)
    assert (answer.ids, answer.text) == ([3, 4], "3 4 ")
    assert sequence.output_ids == [1, 2, 3, 4]
    assert [view.in_flight for view in dispatcher.fleet.replicas.values() if view.in_flight] == []


async def test_a_lost_delta_makes_it_go_on_elsewhere(dispatcher: Dispatcher, pair: Pair) -> None:
    sequence, taken, old, _ = await started(dispatcher, pair)
    await old.send(dispatcher.gateway, tokens(taken, 3, [4]))  # token 3 never came

    assert await old.aborted() == [taken.engine_id]  # or its tokens would be made twice
    old_again, new = pair.split(sequence)
    # A gap says nothing against the replica: it may be chosen again.
    await assert_continued(dispatcher, sequence, taken, old_again)
    assert new is not old_again


@pytest.mark.parametrize(
    "reason",
    ["replica_restarted", "replica_stopping", "engine_died", "engine_error", "overloaded"],
)
async def test_a_replica_that_refuses_is_left_for_another(
    dispatcher: Dispatcher, pair: Pair, reason: str
) -> None:
    sequence, taken, old, new = await started(dispatcher, pair)
    await old.send(dispatcher.gateway, error(taken, reason, offset=2))

    await assert_continued(dispatcher, sequence, taken, new)


async def test_a_replica_that_says_goodbye_is_left_for_another(
    dispatcher: Dispatcher, pair: Pair
) -> None:
    sequence, taken, old, new = await started(dispatcher, pair)
    await old.say_gone()

    await assert_continued(dispatcher, sequence, taken, new)


async def test_a_restarted_replica_is_known_by_its_new_life(
    dispatcher: Dispatcher, pair: Pair
) -> None:
    sequence, taken, old, new = await started(dispatcher, pair)
    await old.restart()
    await eventually(lambda: sequence.attempt == 2)
    peer, _ = pair.split(sequence)  # either may be chosen, the new life included

    await assert_continued(dispatcher, sequence, taken, peer)


@pytest.mark.parametrize("state", ["ready", "draining"])
async def test_a_silent_replica_is_left_for_another(
    dispatcher: Dispatcher, pair: Pair, state: str, settings: object
) -> None:
    """Draining too: whoever drains may be killed before it is done."""
    settings.REPLICA_SILENCE_S = 1.0  # type: ignore[attr-defined]
    sequence, taken, old, new = await started(dispatcher, pair)
    old.state = state
    await eventually(lambda: dispatcher.fleet.replicas[old.name].state == state)
    await old.fall_silent()
    silent_since = time.monotonic()

    await assert_continued(dispatcher, sequence, taken, new)
    assert time.monotonic() - silent_since < 15  # not the half minute of forgetting


async def test_a_gateway_that_stood_still_does_not_take_every_replica_for_dead(
    dispatcher: Dispatcher, pair: Pair, settings: object
) -> None:
    settings.REPLICA_SILENCE_S = 0.5  # type: ignore[attr-defined]
    sequence, taken, old, _ = await started(dispatcher, pair)
    time.sleep(1)  # this event loop stands still; the replicas do not
    dispatcher._check_silence()
    await asyncio.sleep(0.4)  # a round of supervision, after they were heard again

    assert sequence.attempt == 1
    await old.send(dispatcher.gateway, tokens(taken, 2, [3], "stop"))
    assert (await read_to_end(sequence)).ids == [3]


async def test_with_nobody_left_it_waits_and_goes_on_when_one_comes(
    dispatcher: Dispatcher, client: redis.asyncio.Redis
) -> None:
    async with Peer(client, "chat-1") as peer:
        await knows(dispatcher, "chat-1")
        sequence = dispatcher.submit(make_job())
        taken = await peer.take()
        await peer.send(dispatcher.gateway, tokens(taken, 0, [1, 2]))
        await read_ids(sequence, 2)
        await peer.say_gone()
        await eventually(lambda: sequence.parked_since is not None)
        await peer.restart()

        again = await peer.take()
        assert again.prompt_ids == [*taken.prompt_ids, 1, 2] and again.offset == 2
        assert sequence.parked_since is None
        await peer.send(dispatcher.gateway, tokens(again, 2, [3], "stop"))
        assert (await read_to_end(sequence)).ids == [3]


async def test_it_does_not_wait_for_ever(
    dispatcher: Dispatcher, client: redis.asyncio.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatching, "MOST_PARKED_S", 0.3)
    async with Peer(client, "chat-1") as peer:
        await knows(dispatcher, "chat-1")
        sequence = dispatcher.submit(make_job())
        await peer.take()
        await peer.say_gone()
        with pytest.raises(NoReplica):
            await read_to_end(sequence)
        assert dispatcher.in_flight == 0

        await peer.restart()
        assert await peer.is_idle()  # what was given up is not run after all


async def test_a_sequence_that_waits_can_be_cancelled(
    dispatcher: Dispatcher, client: redis.asyncio.Redis
) -> None:
    async with Peer(client, "chat-1") as peer:
        await knows(dispatcher, "chat-1")
        sequence = dispatcher.submit(make_job())
        await peer.take()
        await peer.say_gone()
        await eventually(lambda: sequence.parked_since is not None)
        dispatcher.cancel(sequence)
        await peer.restart()

        assert await peer.is_idle()


async def test_a_sequence_that_waits_is_aborted_nowhere_twice(
    dispatcher: Dispatcher, pair: Pair, valkey: redis.Redis
) -> None:
    sequence, taken, old, new = await started(dispatcher, pair)
    await old.send(dispatcher.gateway, error(taken, "replica_stopping", offset=2))
    await new.take()

    assert await old.aborted() == [taken.engine_id]
    assert valkey.xlen(f"control.{old.name}") == 1


async def test_after_four_attempts_it_is_an_error(
    dispatcher: Dispatcher, client: redis.asyncio.Redis
) -> None:
    async with Peer(client, "chat-1") as peer:
        await knows(dispatcher, "chat-1")
        sequence = dispatcher.submit(make_job())
        for attempt in range(1, dispatching.MOST_ATTEMPTS + 1):
            taken = await peer.take()
            assert taken.attempt == attempt
            await peer.send(dispatcher.gateway, tokens(taken, 5, [6]))  # a gap each time
        with pytest.raises(RequestFailed):
            await read_to_end(sequence)

        assert await peer.is_idle()
    assert dispatcher.in_flight == 0


@pytest.mark.parametrize("sampling", CANNOT_CONTINUE.values(), ids=CANNOT_CONTINUE)
async def test_what_cannot_be_continued_unchanged_fails_once_output_is_out(
    dispatcher: Dispatcher, pair: Pair, sampling: Sampling
) -> None:
    sequence, taken, old, new = await started(dispatcher, pair, sampling)
    await old.send(dispatcher.gateway, error(taken, "engine_died", offset=2))
    with pytest.raises(RequestFailed):
        await read_to_end(sequence)

    assert await new.is_idle()


@pytest.mark.parametrize("sampling", CANNOT_CONTINUE.values(), ids=CANNOT_CONTINUE)
async def test_before_its_first_token_anything_can_start_again(
    dispatcher: Dispatcher, pair: Pair, sampling: Sampling
) -> None:
    sequence = dispatcher.submit(make_job(sampling))
    old, new = pair.split(sequence)
    taken = await old.take()
    await old.send(dispatcher.gateway, error(taken, "engine_died"))

    again = await new.take()
    assert (again.attempt, again.offset, again.sampling) == (2, 0, sampling)
    assert again.prompt_ids == taken.prompt_ids


async def test_when_only_the_end_was_lost_it_is_the_end(dispatcher: Dispatcher, pair: Pair) -> None:
    sequence = dispatcher.submit(make_job(Sampling(max_tokens=2)))
    old, new = pair.split(sequence)
    await old.send(dispatcher.gateway, tokens(await old.take(), 0, [1, 2]))
    await read_ids(sequence, 2)
    await old.say_gone()

    assert (await read_to_end(sequence)).finish_reason == "length"
    assert await new.is_idle()


async def test_overload_everywhere_is_said_at_once_and_not_waited_out(
    dispatcher: Dispatcher, pair: Pair
) -> None:
    sequence = dispatcher.submit(make_job())
    for peer in pair.split(sequence):
        busy = error(await peer.take(), "overloaded")
        busy.retry_after_ms = 2_500
        await peer.send(dispatcher.gateway, busy)
    with pytest.raises(Overloaded) as refusal:
        await read_to_end(sequence)

    assert (refusal.value.status, refusal.value.retry_after_s) == (503, 2.5)


async def test_a_request_that_takes_too_long_is_ended_and_aborted(
    dispatcher: Dispatcher, pair: Pair, settings: object
) -> None:
    sequence, taken, old, _ = await started(dispatcher, pair)
    settings.REQUEST_TIMEOUT_S = 0.1  # type: ignore[attr-defined]
    with pytest.raises(RequestTimedOut):
        await read_to_end(sequence)

    assert await old.aborted() == [taken.engine_id]
    assert dispatcher.in_flight == 0
