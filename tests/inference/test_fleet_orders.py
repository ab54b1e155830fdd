"""Staff's page of the fleet: what lives, and orders that go to one life of a replica."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import redis
from django.conf import settings
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from inference import wire
from inference.models import Deployment, Model, ModelVersion, Replica
from tenants.models import AuditEvent, User
from tests.cast import Cast, build_cast, make_user

FLEET = "admin:inference_replica_fleet"
pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module", autouse=True)
def static_folder() -> None:
    """WhiteNoise warns about a missing one; `collectstatic` makes it in an installation."""
    Path(settings.STATIC_ROOT).mkdir(parents=True, exist_ok=True)


@pytest.fixture
def cast() -> Cast:
    return build_cast()


@pytest.fixture
def deployment() -> Deployment:
    model = Model.objects.create(name="smol", kind="chat")
    version = ModelVersion.objects.create(
        model=model, version="1", source_uri="pypi://x", max_context_tokens=2048
    )
    return Deployment.objects.create(name="smol-local", version=version)


@pytest.fixture
def replica(deployment: Deployment) -> Replica:
    """As the control worker mirrors it."""
    return Replica.objects.create(name="chat-1", deployment=deployment, state="ready")


def beat(valkey: redis.Redis, deployment: int, state: str = "ready", **fields: Any) -> None:
    said = wire.Heartbeat(
        "chat-1", "life-7", deployment, 1, state, "simulated", "host", time.time(), **fields
    )
    valkey.xadd(wire.HEARTBEATS, {b"h": wire.encode(said)})


def log_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def orders(valkey: redis.Redis) -> list[wire.Order]:
    stream = valkey.xrange(wire.control_of("chat-1"))
    return [wire.decode_order(fields[b"o"]) for _, fields in stream]


def page_of(replica: Replica, verb: str) -> str:
    return reverse(f"admin:inference_replica_{verb}", args=[replica.pk])


def test_the_page_shows_what_heartbeats_say(
    cast: Cast, valkey: redis.Redis, replica: Replica
) -> None:
    beat(valkey, replica.deployment_id, running=3, waiting=2, queue_wait_ms=1300.0)
    client = log_in(cast.staff)
    with CaptureQueriesContext(connection) as queries:
        page = client.get(reverse(FLEET))
    html = page.content.decode()

    for shown in ("smol-local", "chat-1", "Ready", "3 / 64", "1.3 s", page_of(replica, "drain")):
        assert shown in html, shown
    assert page_of(replica, "serve") not in html
    assert page.headers["Refresh"] == "5"
    assert len(queries) <= 4  # session, user, rows, deployments


@pytest.mark.parametrize(
    ("state", "verb", "action"),
    [
        ("ready", "drain", "staff.replica.drained"),
        ("draining", "serve", "staff.replica.restored"),
        ("draining", "restart", "staff.replica.restarted"),
    ],
)
def test_an_order_is_asked_first_sent_once_and_audited(
    cast: Cast, valkey: redis.Redis, replica: Replica, state: str, verb: str, action: str
) -> None:
    beat(valkey, replica.deployment_id, state)
    client = log_in(cast.staff)
    assert client.get(page_of(replica, verb)).status_code == 200
    assert orders(valkey) == []
    answer = client.post(page_of(replica, verb))

    assert answer.headers["Location"] == reverse(FLEET)
    assert orders(valkey) == [wire.Order(verb, "life-7")]
    event = AuditEvent.objects.get(action=action)
    assert (event.acting_user, event.object_id) == (cast.staff, "chat-1")
    assert event.before == {"state": state}


@pytest.mark.parametrize(
    ("state", "verb", "told"),
    [
        ("draining", "drain", "chat-1 is draining."),
        ("ready", "serve", "chat-1 is ready."),
        ("starting", "restart", "chat-1 is starting."),
        ("gone", "restart", "No replica of this name lives."),
    ],
)
def test_what_makes_no_sense_is_refused_and_nothing_is_sent(
    cast: Cast, valkey: redis.Redis, replica: Replica, state: str, verb: str, told: str
) -> None:
    beat(valkey, replica.deployment_id, state)
    answer = log_in(cast.staff).post(page_of(replica, verb), follow=True)

    assert told in answer.content.decode()
    assert orders(valkey) == []
    assert not AuditEvent.objects.filter(action__startswith="staff.replica").exists()


def test_who_may_only_look_gives_no_orders(
    cast: Cast, valkey: redis.Redis, replica: Replica
) -> None:
    beat(valkey, replica.deployment_id)
    helper = make_user("helper", is_staff=True)
    helper.user_permissions.set(Permission.objects.filter(codename="view_replica"))
    client = log_in(helper)

    assert page_of(replica, "drain") not in client.get(reverse(FLEET)).content.decode()
    assert client.post(page_of(replica, "drain")).status_code == 403
    for user in (cast.owner, cast.stranger):
        assert log_in(user).get(reverse(FLEET), follow=True).status_code == 403
        assert log_in(user).post(page_of(replica, "drain"), follow=True).status_code == 403
    assert orders(valkey) == []


def test_without_redis_the_page_is_calm_and_an_order_is_refused(
    cast: Cast, replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "REDIS_URL", "redis://127.0.0.1:1/0")
    client = log_in(cast.staff)
    html = client.get(reverse(FLEET)).content.decode()
    assert "Redis does not answer" in html and "smol-local" in html
    answer = client.post(page_of(replica, "drain"), follow=True)
    assert "Redis does not answer" in answer.content.decode()
    assert not AuditEvent.objects.filter(action__startswith="staff.replica").exists()
