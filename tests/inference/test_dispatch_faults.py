"""What no message tells of: requests that kill engines, work that was lost, the late come back."""

from __future__ import annotations

import asyncio
import secrets

import pytest
import redis
import redis.asyncio
from django.conf import settings as django_settings

from inference.circuit import OPENS_AFTER
from inference.dispatch import Dispatcher
from inference.dispatch import dispatcher as dispatching
from inference.dispatch.quarantine import YOUNG_TOKENS
from inference.errors import RequestFailed, RequestQuarantined
from inference.wire import Sampling
from tests.inference.callers import eventually, knows, make_job, read_ids, read_to_end
from tests.inference.peer import Peer, error, tokens

POISON = [66, 6, 6]


@pytest.fixture
async def peers(client: redis.asyncio.Redis, dispatcher: Dispatcher):  # type: ignore[no-untyped-def]
    """Three replicas by their name."""
    async with (
        Peer(client, "chat-1") as a,
        Peer(client, "chat-2") as b,
        Peer(client, "chat-3") as c,
    ):
        await knows(dispatcher, "chat-1", "chat-2", "chat-3")
        yield {peer.name: peer for peer in (a, b, c)}


async def kill_engines(dispatcher: Dispatcher, peers: dict[str, Peer], times: int) -> None:
    sequence = dispatcher.submit(make_job(prompt_ids=POISON))
    for attempt in range(1, times + 1):
        await eventually(lambda attempt=attempt: sequence.attempt == attempt)  # type: ignore[misc]
        peer = peers[sequence.replica]
        await peer.send(dispatcher.gateway, error(await peer.take(), "engine_died"))
    with pytest.raises(RequestQuarantined):
        await read_to_end(sequence)


async def test_a_request_that_engines_die_of_is_refused_after_the_second(
    dispatcher: Dispatcher, peers: dict[str, Peer]
) -> None:
    await kill_engines(dispatcher, peers, times=2)

    with pytest.raises(RequestQuarantined) as refusal:
        dispatcher.submit(make_job(prompt_ids=POISON))
    assert (refusal.value.status, refusal.value.code) == (400, "request_quarantined")
    # Another prompt, other parameters, another organization: another request.
    dispatcher.submit(make_job())
    dispatcher.submit(make_job(Sampling(max_tokens=11), prompt_ids=POISON))
    assert dispatcher.in_flight == 2


async def test_other_gateways_hear_of_it_and_new_ones_too(
    dispatcher: Dispatcher, peers: dict[str, Peer]
) -> None:
    beside = Dispatcher(django_settings.REDIS_URL, secrets.token_hex(4))
    await beside.start()
    await kill_engines(dispatcher, peers, times=2)
    later = Dispatcher(django_settings.REDIS_URL, secrets.token_hex(4))
    await later.start()
    for each in (beside, later):
        await eventually(lambda each=each: len(each._quarantine) == 1)  # type: ignore[misc]
        with pytest.raises(RequestQuarantined):
            each.submit(make_job(prompt_ids=POISON))
        await each.stop()


async def test_who_had_come_far_when_an_engine_died_is_not_suspected_so_soon(
    dispatcher: Dispatcher, peers: dict[str, Peer]
) -> None:
    sequence = dispatcher.submit(make_job(Sampling(max_tokens=100)))
    far = list(range(YOUNG_TOKENS))
    for attempt in (1, 2):
        peer, before = peers[sequence.replica], len(sequence.output_ids)
        taken = await peer.take()
        await peer.send(dispatcher.gateway, tokens(taken, before, far))
        await read_ids(sequence, len(far))
        died = error(taken, "engine_died", offset=before + len(far))
        await peer.send(dispatcher.gateway, died)
        await eventually(lambda attempt=attempt: sequence.attempt == attempt + 1)  # type: ignore[misc]
    peer = peers[sequence.replica]
    await peer.send(dispatcher.gateway, tokens(await peer.take(), 2 * len(far), [1], "stop"))

    assert (await read_to_end(sequence)).finish_reason == "stop"


async def test_a_ready_replica_that_says_goodbye_lost_its_engine(
    dispatcher: Dispatcher, peers: dict[str, Peer]
) -> None:
    sequence = dispatcher.submit(make_job(prompt_ids=POISON))
    for _ in range(2):
        peer = peers[sequence.replica]
        await peer.take()
        await peer.say_gone()
        await eventually(lambda peer=peer: sequence.replica != peer.name or sequence.is_done)  # type: ignore[misc]
    with pytest.raises(RequestQuarantined):
        await read_to_end(sequence)


async def test_replicas_that_stop_or_are_killed_condemn_nobody(
    dispatcher: Dispatcher, peers: dict[str, Peer]
) -> None:
    sequence = dispatcher.submit(make_job(prompt_ids=POISON))
    first = peers[sequence.replica]
    first.state = "draining"
    await eventually(lambda: dispatcher.fleet.replicas[first.name].state == "draining")
    await first.say_gone()
    await eventually(lambda: sequence.attempt == 2)
    await peers[sequence.replica].restart()  # killed, and another life under its name
    await eventually(lambda: sequence.attempt == 3)

    assert sequence.deaths == 0 and not sequence.is_done


async def test_an_engine_that_fails_again_and_again_is_left_alone(
    dispatcher: Dispatcher, peers: dict[str, Peer]
) -> None:
    bad = peers["chat-2"]
    for name in ("chat-1", "chat-3"):  # so that it is the one that is chosen
        peers[name].running = 60
    await eventually(lambda: dispatcher.fleet.replicas["chat-1"].running == 60)
    await eventually(lambda: dispatcher.fleet.replicas["chat-3"].running == 60)
    for _ in range(OPENS_AFTER):
        dispatcher.fleet.replicas[
            "chat-2"
        ].failures = 0.0  # as if long ago: only the circuit counts
        sequence = dispatcher.submit(make_job())
        assert sequence.replica == "chat-2"
        await bad.send(dispatcher.gateway, error(await bad.take(), "engine_error"))
        await eventually(lambda sequence=sequence: sequence.attempt == 2)  # type: ignore[misc]
    dispatcher.fleet.replicas["chat-2"].failures = 0.0

    assert all(dispatcher.submit(make_job()).replica != "chat-2" for _ in range(4))


async def test_what_a_replica_never_heard_of_goes_elsewhere(
    dispatcher: Dispatcher, peers: dict[str, Peer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatching, "EMPTY_AFTER_S", 0.5)
    sequence = dispatcher.submit(make_job())
    deaf = peers[sequence.replica]
    for peer in peers.values():
        peer.running = 0 if peer is deaf else 1
    await eventually(lambda: sequence.attempt == 2)

    assert sequence.replica != deaf.name
    peer = peers[sequence.replica]
    await peer.send(dispatcher.gateway, tokens(await peer.take(), 0, [1], "stop"))
    assert (await read_to_end(sequence)).ids == [1]


async def test_what_redis_lost_on_its_way_is_sent_again(
    dispatcher: Dispatcher, client: redis.asyncio.Redis, valkey: redis.Redis
) -> None:
    async with Peer(client, "chat-1") as peer:
        await knows(dispatcher, "chat-1")
        peer.running = 2
        moving, lost = dispatcher.submit(make_job()), dispatcher.submit(make_job())
        taken, _ = await peer.take(), await peer.take()
        await peer.send(dispatcher.gateway, tokens(taken, 0, [1]))
        await read_ids(moving, 1)
        valkey.flushall()
        await eventually(lambda: bool(valkey.exists(f"mailbox.{dispatcher.gateway}")))
        await peer.send(dispatcher.gateway, tokens(taken, 1, [2]))
        again = await peer.take()

        assert (again.request_id, again.attempt) == (lost.job.request_id, 2)
        assert moving.attempt == 1  # it moved: nothing of it was lost
        await peer.send(dispatcher.gateway, tokens(again, 0, [7], "stop"))
        assert (await read_to_end(lost)).ids == [7]


async def test_a_replica_that_froze_and_comes_back_late_is_fenced_off(
    dispatcher: Dispatcher, peers: dict[str, Peer], settings: object
) -> None:
    """SIGSTOP, as gateways see it: silence, then the same life goes on where it stood."""
    settings.REPLICA_SILENCE_S = 0.5  # type: ignore[attr-defined]
    sequence = dispatcher.submit(make_job())
    frozen = peers[sequence.replica]
    taken = await frozen.take()
    await frozen.send(dispatcher.gateway, tokens(taken, 0, [1]))
    await read_ids(sequence, 1)
    await frozen.fall_silent()
    await eventually(lambda: sequence.attempt == 2)
    new = peers[sequence.replica]
    again = await new.take()
    frozen.come_alive()
    await frozen.send(dispatcher.gateway, tokens(taken, 1, [66, 66, 66], "stop"))
    await knows(dispatcher, frozen.name)
    await new.send(dispatcher.gateway, tokens(again, 1, [2], "stop"))

    assert (await read_to_end(sequence)).ids == [2] and sequence.output_ids == [1, 2]
    assert await frozen.aborted() == [taken.engine_id]
    assert dispatcher.fleet.replicas[frozen.name].in_flight == 0


async def test_failures_are_told_from_a_gateway_that_asked_for_too_much(
    dispatcher: Dispatcher, client: redis.asyncio.Redis
) -> None:
    async with Peer(client, "chat-1") as peer:
        await knows(dispatcher, "chat-1")
        sequence = dispatcher.submit(make_job())
        await peer.send(dispatcher.gateway, error(await peer.take(), "engine_error"))
        with pytest.raises(RequestFailed):
            await read_to_end(sequence)
        await asyncio.sleep(0)
        assert dispatcher.fleet.replicas["chat-1"].circuit.failures == 1
