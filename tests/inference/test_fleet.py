"""The fleet from its heartbeats: in a gateway's memory, and as rows for people."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import timedelta

import pytest
import redis
from django.conf import settings
from django.utils import timezone

from inference import fleet as fleets
from inference import wire
from inference.fleet import Fleet, mirror_replicas
from inference.models import Deployment, Model, ModelVersion, Replica
from inference.routing import ReplicaView
from inference.wire import Heartbeat
from tenants.redis_link import RedisLink
from tests.inference.callers import eventually

BEAT = Heartbeat(
    replica="chat-1",
    incarnation="life-1",
    deployment=1,
    version=1,
    state="ready",
    engine="vllm",
    node="gpu-7",
    started_at=1_700_000_000.0,
    running=3,
    waiting=2,
    kv_cache_usage=0.5,
    tokens_per_second=123.0,
    capacity=64,
)


def beat(**changes: object) -> Heartbeat:
    return Heartbeat(
        **{name: changes.get(name, getattr(BEAT, name)) for name in Heartbeat.__struct_fields__}
    )


@pytest.fixture
def heard() -> list[tuple[str, str, str]]:
    """(replica, incarnation, state) of every change the fleet told of."""
    return []


@pytest.fixture
def fleet(heard: list[tuple[str, str, str]]) -> Fleet:
    link = RedisLink(settings.REDIS_URL, timeout_s=5, name="fleet")
    return Fleet(link, lambda view, _: heard.append((view.name, view.incarnation, view.state)))


def test_a_first_heartbeat_makes_a_replica_known(
    fleet: Fleet, heard: list[tuple[str, str, str]]
) -> None:
    fleet.region_of = lambda deployment: f"region-{deployment}"
    fleet.accept(BEAT)

    (view,) = fleet.of_deployment(1).values()
    assert (view.name, view.region, view.state) == ("chat-1", "region-1", "ready")
    assert (view.running, view.waiting, view.capacity) == (3, 2, 64)
    assert heard == [("chat-1", "life-1", "ready")]


def test_only_changes_of_state_are_told(fleet: Fleet, heard: list[tuple[str, str, str]]) -> None:
    for state in ("starting", "starting", "ready", "ready", "draining", "gone"):
        fleet.accept(beat(state=state))

    assert [state for _, _, state in heard] == ["starting", "ready", "draining", "gone"]


def test_a_new_life_is_the_end_of_the_old_one(
    fleet: Fleet, heard: list[tuple[str, str, str]]
) -> None:
    fleet.accept(BEAT)
    fleet.replicas["chat-1"].in_flight = 9
    fleet.accept(beat(incarnation="life-2"))

    assert heard[1:] == [("chat-1", "life-1", "gone"), ("chat-1", "life-2", "ready")]
    assert fleet.replicas["chat-1"].in_flight == 0


def test_a_replica_that_moves_to_another_deployment_is_in_one_only(fleet: Fleet) -> None:
    fleet.accept(BEAT)
    fleet.accept(beat(incarnation="life-2", deployment=2))

    assert not fleet.of_deployment(1)
    assert list(fleet.of_deployment(2)) == ["chat-1"]


def test_the_goodbye_of_a_stranger_is_nothing(
    fleet: Fleet, heard: list[tuple[str, str, str]]
) -> None:
    fleet.accept(beat(state="gone"))

    assert fleet.replicas == {} and heard == []


def test_failures_fade_with_time(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet.accept(BEAT)
    view = fleet.replicas["chat-1"]
    view.failures, view.seen_at = 8.0, view.seen_at - fleets.FAILURE_HALF_LIFE_S
    fleet.accept(BEAT)

    assert 3.5 < view.failures <= 4.0


def test_who_is_silent_for_long_is_forgotten(
    fleet: Fleet, heard: list[tuple[str, str, str]]
) -> None:
    fleet.accept(BEAT)
    fleet.accept(beat(replica="chat-2"))
    fleet.replicas["chat-1"].seen_at -= fleets.FORGET_S + 1
    fleet.forget_silent()

    assert list(fleet.replicas) == list(fleet.of_deployment(1)) == ["chat-2"]
    assert heard[-1] == ("chat-1", "life-1", "gone")


async def test_a_gateway_that_starts_knows_what_was_said_just_before(
    valkey: redis.Redis, fleet: Fleet
) -> None:
    ms = int(time.time() * 1000)
    valkey.xadd(
        wire.HEARTBEATS, {b"h": wire.encode(beat(replica="long-dead"))}, id=f"{ms - 60_000}-0"
    )
    valkey.xadd(wire.HEARTBEATS, {b"h": wire.encode(BEAT)}, id=f"{ms - 500}-0")
    task = asyncio.create_task(fleet.run())
    await eventually(lambda: "chat-1" in fleet.replicas)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await fleet._reader.aclose()

    assert "long-dead" not in fleet.replicas


# --- Rows for the admin ------------------------------------------------------------------


@pytest.fixture
def deployment(db: None) -> Deployment:
    model = Model.objects.create(name="tiny", kind=Model.Kind.CHAT)
    version = ModelVersion.objects.create(
        model=model, version="1", source_uri="file:///tiny", max_context_tokens=128
    )
    return Deployment.objects.create(name="tiny", version=version)


def say(valkey: redis.Redis, deployment: Deployment, **changes: object) -> None:
    content = wire.encode(beat(deployment=deployment.pk, **changes))
    valkey.xadd(wire.HEARTBEATS, {b"h": content})


def test_rows_follow_the_heartbeats(valkey: redis.Redis, deployment: Deployment) -> None:
    say(valkey, deployment, running=1)
    say(valkey, deployment)
    say(valkey, deployment, replica="chat-2", state="starting")

    assert mirror_replicas() == 2
    row = Replica.objects.get(name="chat-1")
    assert (row.state, row.engine, row.node, row.running) == ("ready", "vllm", "gpu-7", 3)
    assert row.started_at is not None and row.started_at.timestamp() == BEAT.started_at
    assert row.last_heartbeat_at is not None
    assert timezone.now() - row.last_heartbeat_at < timedelta(minutes=1)
    assert Replica.objects.get(name="chat-2").state == "starting"


def test_who_says_nothing_is_shown_as_gone(valkey: redis.Redis, deployment: Deployment) -> None:
    say(valkey, deployment)
    mirror_replicas()
    valkey.flushdb()

    assert mirror_replicas() == 0
    row = Replica.objects.get(name="chat-1")
    assert (row.state, row.running, row.waiting, row.tokens_per_second) == ("gone", 0, 0, 0)


def test_a_replica_of_no_known_deployment_and_nonsense_are_passed_over(
    valkey: redis.Redis, deployment: Deployment
) -> None:
    valkey.xadd(wire.HEARTBEATS, {b"h": b"\xc1"})
    valkey.xadd(wire.HEARTBEATS, {b"other": b""})
    valkey.xadd(wire.HEARTBEATS, {b"h": wire.encode(beat(replica="lost", deployment=10**6))})
    say(valkey, deployment)
    mirror_replicas()

    assert [row.name for row in Replica.objects.all()] == ["chat-1"]


def test_a_view_counts_what_it_sent_before_heartbeats_tell() -> None:
    view = ReplicaView("a", "x", 1, 1, "", "ready", running=2, waiting=1, capacity=10, seen_at=0.0)

    assert view.load == 0.3
    assert replace(view, in_flight=20).load == 2.0
    assert replace(view, capacity=0).load == 3.0
