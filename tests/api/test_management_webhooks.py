"""Webhooks by the management API, from making one to reading what it was sent."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tenants.models import IdempotentRequest, Job, WebhookDelivery, WebhookEndpoint
from tests.api.management import Caller
from tests.cast import Cast
from tests.jobs import run_due_jobs
from tests.tenants.receiver import Receiver

pytestmark = pytest.mark.django_db
NEW = {"url": "https://hooks.example.com/sluice", "events": ["batch.completed"]}


@pytest.fixture
def owner(cast: Cast) -> Caller:
    return Caller(cast.owner_admin_key)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


def test_an_endpoint_from_its_making_to_its_end(owner: Caller) -> None:
    made = owner.post("/webhooks", NEW | {"description": "Ours"})
    assert made["secret"].startswith("whsec_") and made["enabled"]
    one = f"/webhooks/{made['id']}"
    shown = owner.get(one)
    assert shown == {name: value for name, value in made.items() if name != "secret"}
    assert owner.get("/webhooks")["data"] == [shown]
    changed = owner.post(one, {"enabled": False})
    assert (changed["enabled"], changed["disabled_by"], changed["url"]) == (
        False, "member", NEW["url"],
    )  # fmt: skip
    rotated = owner.post(f"{one}/rotate_secret", {})
    assert rotated["secret"] not in (made["secret"], None)
    assert rotated["previous_secret_expires_at"] > rotated["created_at"]
    assert owner.delete(one) == {
        "id": made["id"], "object": "organization.webhook.deleted", "deleted": True,
    }  # fmt: skip
    assert owner.get(one, 404)["code"] == "not_found"


def test_what_was_sent_is_listed_and_sent_again(owner: Caller, receiver: Receiver) -> None:
    receiver.status, receiver.answer = 503, b"busy"
    one = f"/webhooks/{owner.post('/webhooks', NEW | {'url': receiver.url})['id']}"
    made = owner.post(f"{one}/test", {})
    assert (made["type"], made["status"], made["log"]) == ("webhook.test", "waiting", [])
    run_due_jobs()
    [listed] = owner.get(f"{one}/deliveries")["data"]
    assert (listed["attempts"], listed["status_code"], listed["status"]) == (1, 503, "waiting")
    assert listed["next_attempt_at"] > listed["created_at"]
    [attempt] = owner.get(f"{one}/deliveries/{made['id']}")["log"]
    assert (attempt["number"], attempt["response"], attempt["error"]) == (1, "busy", None)
    replay = f"{one}/deliveries/{made['id']}/replay"
    assert owner.post(replay, {}, 409)["code"] == "already_done"
    Job.objects.all().delete()
    WebhookDelivery.objects.update(state="failed", ended_at=made_at())
    receiver.status = 200
    again = owner.post(replay, {})
    assert again["event_id"] == made["event_id"] and again["is_replay"]
    run_due_jobs()
    assert owner.get(f"{one}/deliveries/{again['id']}")["status"] == "delivered"
    assert len(owner.get(f"{one}/deliveries?limit=1&order=desc")["data"]) == 1


def made_at() -> object:
    from django.utils import timezone

    return timezone.now()


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"url": "https://10.0.0.1/"}, "url"),
        ({"url": "https://169.254.169.254/"}, "url"),
        ({"url": "http://hooks.example.com/"}, "url"),
        ({"url": 7}, "url"),
        ({"events": []}, "events"),
        ({"events": ["batch.exploded"]}, "events"),
        ({"events": ["batch.completed"] * 99}, "events"),
        ({"description": "x" * 201}, "description"),
        ({"secret": "whsec_mine"}, "secret"),
    ],
)
def test_bad_input_names_its_field(owner: Caller, change: dict[str, object], param: str) -> None:
    error = owner.post("/webhooks", NEW | change, 400)
    assert error["param"] == param or error["param"].startswith(param)
    assert not WebhookEndpoint.objects.exists()


def test_others_find_nothing_and_change_nothing(cast: Cast, owner: Caller) -> None:
    made = owner.post("/webhooks", NEW)
    one = f"/webhooks/{made['id']}"
    stranger = Caller(cast.stranger_admin_key)
    assert stranger.get("/webhooks")["data"] == []
    for path in (one, f"{one}/deliveries"):
        assert stranger.get(path, 404)["code"] == "not_found"
    stranger.post(one, {"enabled": False}, 404)
    stranger.delete(one, 404)
    reader = owner.post("/admin_api_keys", {"name": "r", "scopes": ["usage.read"]})["value"]
    for call in (Caller(reader).get, Caller(reader).delete):
        assert call(one, 403)["code"] == "insufficient_permissions"
    assert WebhookEndpoint.objects.get().is_enabled


def test_a_repeated_request_is_answered_again_without_the_secret(owner: Caller) -> None:
    once = {"headers": {"Idempotency-Key": "one"}}
    first = owner.post("/webhooks", NEW, **once)
    second = owner.post("/webhooks", NEW, **once)
    assert second == first | {"secret": None}
    assert b"whsec_" not in bytes(IdempotentRequest.objects.get().body)
    assert WebhookEndpoint.objects.count() == 1
