"""The first call of a key: waited for, shown when it is counted, seen by those who see the key."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from billing.models import UsageEvent
from tenants import actions
from tenants.models import ApiKey
from tests.cast import Cast
from tests.portal.conftest import form_id_in, log_in

pytestmark = pytest.mark.django_db
PART = {"X-Requested-With": "part"}


def url(cast: Cast, key: ApiKey) -> str:
    return f"/o/{cast.organization.public_id}/keys/{key.public_id}/first-call/"


def part(client: Client, address: str) -> str:
    answer = client.get(address, headers=PART)
    assert answer.status_code == 200
    return answer.content.decode()


def call(key: ApiKey, number: int = 1, **fields: Any) -> UsageEvent:
    return UsageEvent.objects.create(**{
        "request_id": f"req_{key.pk}_{number}", "organization": key.organization,
        "project": key.project, "api_key": key, "model": "smol", "endpoint": "chat.completions",
        "status": "completed", "source": "gateway", "prompt_tokens": 11, "completion_tokens": 7,
        "started_at": timezone.now(), "time_to_first_token_ms": 42, "duration_ms": 137,
        "cost_micros": 1_500,
    } | fields)  # fmt: skip


def new_key(cast: Cast) -> ApiKey:
    return actions.create_api_key(cast.project, "Another", acting_user=cast.owner)[0]


def test_it_is_waited_for_and_then_shown(cast: Cast) -> None:
    owner, key = log_in(cast.owner), cast.owner_api_key
    waiting = part(owner, url(cast, key))
    assert "Waiting for the first call" in waiting and "data-awaited-done" not in waiting
    assert 'aria-current="step"' in waiting and "<html" not in waiting
    event = call(key)
    arrived = part(owner, url(cast, key))
    assert "data-awaited-done" in arrived and "Waiting" not in arrived
    for fact in (event.request_id, "smol", "42 ms", "137 ms", "$0.0015"):
        assert fact in arrived, fact
    assert owner.get(url(cast, key)).content.decode().count(event.request_id) == 1, "whole page"


def test_the_earliest_of_this_very_key_is_the_first(cast: Cast) -> None:
    key, now = new_key(cast), timezone.now()
    call(cast.owner_api_key)
    assert "data-awaited-done" not in part(log_in(cast.owner), url(cast, key))
    call(key, 2, started_at=now + timedelta(minutes=3), model="later")
    call(key, 1, started_at=now + timedelta(minutes=1), model="earlier")
    assert "earlier" in part(log_in(cast.owner), url(cast, key))


def test_a_call_that_failed_has_arrived_too(cast: Cast) -> None:
    call(cast.owner_api_key, status="failed", completion_tokens=0, time_to_first_token_ms=None)
    shown = part(log_in(cast.owner), url(cast, cast.owner_api_key))
    assert "data-awaited-done" in shown and "not answered to its end" in shown
    assert "First token after" not in shown


def test_only_the_first_key_is_led_all_the_way(cast: Cast) -> None:
    owner = log_in(cast.owner)
    assert "The way to your first token" in part(owner, url(cast, cast.owner_api_key))
    assert "The way to your first token" not in part(owner, url(cast, new_key(cast)))


def test_who_does_not_see_the_key_does_not_see_its_call(cast: Cast) -> None:
    address = url(cast, cast.owner_api_key)
    call(cast.owner_api_key)
    assert log_in(cast.stranger).get(address).status_code == 404
    assert log_in(cast.billing).get(address, headers=PART).status_code == 403
    foreign = f"/o/{cast.organization.public_id}/keys/{cast.stranger_api_key.public_id}/first-call/"
    assert log_in(cast.owner).get(foreign).status_code == 404
    assert Client().get(address).status_code == 302


def test_a_key_that_ended_says_so(cast: Cast) -> None:
    ApiKey.objects.filter(pk=cast.owner_api_key.pk).update(revoked_at=timezone.now())
    shown = log_in(cast.owner).get(url(cast, cast.owner_api_key)).content.decode()
    assert "does not work any more" in shown and "Try it" not in shown


def test_the_secret_is_on_the_page_of_its_making_alone(cast: Cast) -> None:
    owner = log_in(cast.owner)
    page = f"/o/{cast.organization.public_id}/keys/new/"
    form_id = form_id_in(owner.get(page).content.decode())
    form = {"form_id": form_id, "name": "Fresh", "owner": cast.project.public_id}
    created = owner.post(page, form)
    assert created.status_code == 201
    html, key = created.content.decode(), created.context["key"]
    secret = created.context["secret"]
    assert html.count(secret) == 4, "once to copy, and in the three examples"
    assert f'data-awaited="{url(cast, key)}"' in html and "Waiting for the first call" in html
    assert secret not in owner.get(url(cast, key)).content.decode()


def test_looking_again_and_again_costs_little(cast: Cast) -> None:
    owner, key = log_in(cast.owner), cast.owner_api_key
    part(owner, url(cast, key))
    with CaptureQueriesContext(connection) as asked:
        part(owner, url(cast, key))
    assert len(asked) <= 12
