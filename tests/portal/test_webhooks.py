"""Webhooks on the pages: made, tested, read in the log, sent again, by those who manage them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client

from tenants import actions
from tenants.models import WebhookDelivery, WebhookEndpoint
from tests.cast import Cast
from tests.jobs import run_due_jobs
from tests.portal.conftest import form_id_in, log_in
from tests.tenants.receiver import Receiver

pytestmark = pytest.mark.django_db
NEW = {"url": "https://hooks.example.com/x", "description": "Ours", "events": ["batch.completed"]}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


def url(cast: Cast, path: str = "") -> str:
    return f"/o/{cast.organization.public_id}/settings/webhooks/{path}"


def form(client: Client, cast: Cast) -> dict[str, Any]:
    return NEW | {"form_id": form_id_in(client.get(url(cast, "new/")).content.decode())}


def make(cast: Cast, address: str = NEW["url"]) -> WebhookEndpoint:  # type: ignore[assignment]
    terms = actions.EndpointTerms(address, ("batch.completed",))
    return actions.create_webhook(cast.organization, terms, acting_user=cast.owner)[0]


def test_a_webhook_is_made_and_its_secret_shown_once(cast: Cast) -> None:
    client = log_in(cast.admin)
    assert "No webhooks yet" in client.get(url(cast)).content.decode()
    given = form(client, cast)
    made = client.post(url(cast, "new/"), given)
    assert made.status_code == 201
    twice = client.post(url(cast, "new/"), given)
    assert twice["Location"] == url(cast)
    (secret,) = re.findall(r"whsec_[A-Za-z0-9+/=]{40,}", made.content.decode())
    endpoint = WebhookEndpoint.objects.get()
    assert endpoint.events == ["batch.completed"] and endpoint.created_by == cast.admin
    for path in ("", f"{endpoint.public_id}/", f"{endpoint.public_id}/edit/"):
        page = client.get(url(cast, path)).content.decode()
        assert NEW["url"] in page and secret not in page
    rotated = client.post(url(cast, f"{endpoint.public_id}/rotate/"), {"overlap": "24"})
    page = rotated.content.decode()
    assert "whsec_" in page and secret not in page and "signs too until" in page


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"url": "https://10.0.0.1/"}, "not on the public internet"),
        ({"url": "http://hooks.example.com/"}, "Port 80 is not allowed"),
        ({"url": "https://2130706433/"}, "no host name"),
        ({"url": ""}, "required"),
        ({"form_id": "made-up"}, "expired"),
        ({"events": []}, "required"),
        ({"events": ["batch.exploded"]}, "valid choice"),
    ],
)
def test_what_is_wrong_is_said_beside_its_field(
    cast: Cast, changes: dict[str, Any], says: str
) -> None:
    client = log_in(cast.owner)
    answer = client.post(url(cast, "new/"), form(client, cast) | changes)
    assert answer.status_code == 400 and says in answer.content.decode()
    assert not WebhookEndpoint.objects.exists()


def test_from_a_test_event_to_the_log_and_again(cast: Cast, receiver: Receiver) -> None:
    receiver.answer = b"<b>thanks</b>"
    endpoint = make(cast, receiver.url)
    client = log_in(cast.owner)
    sent = client.post(url(cast, f"{endpoint.public_id}/test/"))
    delivery = WebhookDelivery.objects.get()
    assert sent["Location"] == url(cast, f"{endpoint.public_id}/deliveries/{delivery.public_id}/")
    assert "No attempt yet" in client.get(sent["Location"]).content.decode()
    run_due_jobs()
    page = client.get(sent["Location"]).content.decode()
    assert "Delivered" in page and "&lt;b&gt;thanks&lt;/b&gt;" in page and "<b>thanks" not in page
    log = client.get(url(cast, f"{endpoint.public_id}/")).content.decode()
    assert "webhook.test" in log and "Delivered" in log
    again = client.post(sent["Location"] + "replay/")
    assert again.status_code == 302 and WebhookDelivery.objects.count() == 2
    run_due_jobs()
    assert len({each.headers["webhook-id"] for each in receiver.received}) == 1


def test_it_is_turned_off_and_on_changed_and_removed(cast: Cast) -> None:
    endpoint = make(cast)
    client = log_in(cast.owner)
    one = f"{endpoint.public_id}/"
    for is_enabled in ("0", "1"):
        client.post(url(cast, f"{one}switch/"), {"is_enabled": is_enabled})
        endpoint.refresh_from_db()
        assert endpoint.is_enabled is (is_enabled == "1")
    changed = NEW | {"events": ["batch.failed", "budget.exceeded"]}
    assert client.post(url(cast, f"{one}edit/"), changed).status_code == 302
    endpoint.refresh_from_db()
    assert endpoint.events == ["batch.failed", "budget.exceeded"]
    assert client.get(url(cast, f"{one}delete/")).status_code == 200
    assert WebhookEndpoint.objects.exists()
    client.post(url(cast, f"{one}delete/"))
    assert not WebhookEndpoint.objects.exists()


PAGES = ("", "new/", "{one}/", "{one}/edit/", "{one}/rotate/", "{one}/delete/",
         "{one}/deliveries/{delivery}/")  # fmt: skip
CHANGES = ("new/", "{one}/edit/", "{one}/rotate/", "{one}/delete/", "{one}/switch/", "{one}/test/",
           "{one}/deliveries/{delivery}/replay/")  # fmt: skip


@pytest.mark.parametrize(
    ("who", "status"),
    [("member", 403), ("billing", 403), ("viewer", 403), ("stranger", 404), (None, 302)],
)
def test_others_see_nothing_and_change_nothing(cast: Cast, who: str | None, status: int) -> None:
    endpoint = make(cast)
    delivery = actions.send_test_event(endpoint, acting_user=cast.owner)
    before = WebhookEndpoint.objects.values().get()
    client = log_in(getattr(cast, who)) if who else Client()
    names = {"one": endpoint.public_id, "delivery": delivery.public_id}
    for path in PAGES:
        assert client.get(url(cast, path.format(**names))).status_code == status, path
    for path in CHANGES:
        given = NEW | {"overlap": "0", "is_enabled": "0"}
        assert client.post(url(cast, path.format(**names)), given).status_code == status, path
    assert WebhookEndpoint.objects.values().get() == before
    assert WebhookDelivery.objects.count() == 1


def test_another_organizations_webhook_is_absent(cast: Cast) -> None:
    terms = actions.EndpointTerms("https://hooks.example.com/", ("batch.completed",))
    theirs, _ = actions.create_webhook(cast.other_organization, terms, acting_user=None)
    client = log_in(cast.owner)
    for path in ("", "edit/", "rotate/", "delete/"):
        assert client.get(url(cast, f"{theirs.public_id}/{path}")).status_code == 404
