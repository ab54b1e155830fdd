"""``mirror_replicas``: the fleet in rows, for people to look at."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from django.utils import timezone
from redis import Redis

from inference import wire
from inference.fleet import KEEP_GONE, mirror_replicas
from inference.models import Deployment, Model, ModelVersion, Replica

pytestmark = pytest.mark.django_db


@pytest.fixture
def deployment() -> Deployment:
    model = Model.objects.create(name="smol", kind="chat")
    version = ModelVersion.objects.create(model=model, version="1", max_context_tokens=128)
    return Deployment.objects.create(name="smol", version=version)


def say(valkey: Redis, name: str, deployment: int, state: str = "ready") -> None:
    beat = wire.Heartbeat(
        replica=name, incarnation="i1", deployment=deployment, version=1, state=state,
        engine="simulated", node="here", started_at=time.time(), running=3, waiting=2,
        kv_cache_usage=0.5, tokens_per_second=10.0, capacity=64,
    )  # fmt: skip
    valkey.xadd(wire.HEARTBEATS, {b"h": wire.encode(beat)})


def gone_since(deployment: Deployment, name: str, age: timedelta, state: str = "gone") -> None:
    Replica.objects.create(
        name=name, deployment=deployment, state=state, last_heartbeat_at=timezone.now() - age
    )


def test_what_is_heard_is_written_and_what_is_silent_is_gone(
    valkey: Redis, deployment: Deployment
) -> None:
    gone_since(deployment, "silent", timedelta(minutes=1), state="ready")
    say(valkey, "chat-1", deployment.pk)
    say(valkey, "of-no-deployment", deployment.pk + 1)

    assert mirror_replicas() == 2
    rows = {row.name: row for row in Replica.objects.all()}
    assert {name: row.state for name, row in rows.items()} == {"chat-1": "ready", "silent": "gone"}
    assert (rows["chat-1"].running, rows["chat-1"].waiting) == (3, 2)


def test_replicas_gone_for_more_than_a_week_are_forgotten(
    valkey: Redis, deployment: Deployment
) -> None:
    a_little = timedelta(minutes=1)
    gone_since(deployment, "old", KEEP_GONE + a_little)
    gone_since(deployment, "silent-and-old", KEEP_GONE + a_little, state="ready")
    gone_since(deployment, "recent", KEEP_GONE - a_little)
    gone_since(deployment, "back", KEEP_GONE + a_little)
    say(valkey, "back", deployment.pk)

    mirror_replicas()
    assert set(Replica.objects.values_list("name", flat=True)) == {"recent", "back"}
    assert Replica.objects.get(name="back").state == "ready"
    assert Deployment.objects.count() == 1
