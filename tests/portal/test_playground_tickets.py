"""Tickets of the portal's own pages: who gets one, for what, and whom its requests count for."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
import pytest
import redis
from django.test import Client
from websockets.sync.client import connect

from tenants import actions, people
from tenants.access import get_actor
from tenants.models import Membership, Role
from tenants.tickets import MOST_A_MINUTE, counter_of, key_of, read_ticket
from tests.cast import Cast
from tests.harness.platform import CHAT_MODEL, Platform, wait_for
from tests.portal.conftest import log_in


def ask(client: Client, cast: Cast, body: Any = None, **headers: str) -> Any:
    path = f"/o/{cast.organization.public_id}/playground/tickets/"
    body = {"project": cast.project.public_id} if body is None else body
    content = body if isinstance(body, str | bytes) else json.dumps(body)
    return client.post(path, content, content_type="application/json", headers=headers)


def test_who_may_make_a_key_gets_a_ticket_for_this_origin(cast: Cast, valkey: redis.Redis) -> None:
    for person in (cast.owner, cast.admin, cast.member):
        answer = ask(log_in(person), cast)
        assert answer.status_code == 200 and "no-store" in answer.headers["cache-control"]
        issued = answer.json()
        key = key_of(issued["ticket"])
        ticket = read_ticket(valkey.get(key))
        assert ticket.origin == "http://testserver"
        assert 0 < valkey.ttl(key) <= 60
        assert issued["ticket"].encode() not in valkey.get(key)
        principal = people.get_member_principal(ticket.lookup)
        assert principal is not None
        assert (principal.organization, principal.project) == (
            cast.organization.pk, cast.project.pk,
        )  # fmt: skip
        assert principal.api_key == -person.pk


def test_who_may_not_gets_none(cast: Cast, valkey: redis.Redis) -> None:
    assert ask(log_in(cast.viewer), cast).status_code == 403
    assert ask(log_in(cast.billing), cast).status_code == 403
    assert ask(log_in(cast.stranger), cast).status_code == 404
    assert (
        ask(log_in(cast.owner), cast, {"project": cast.other_project.public_id}).status_code == 404
    )
    assert ask(Client(), cast).status_code == 302, "to the log-in"
    assert list(valkey.scan_iter("ticket:*")) == []


def test_another_site_cannot_ask_in_somebodys_name(cast: Cast, valkey: redis.Redis) -> None:
    client = log_in(cast.owner, enforce_csrf_checks=True)
    assert ask(client, cast).status_code == 403
    assert (
        log_in(cast.owner).get(f"/o/{cast.organization.public_id}/playground/tickets/").status_code
        == 405
    )
    assert list(valkey.scan_iter("ticket:*")) == []


@pytest.mark.parametrize(
    "body", ["", "[", {}, {"project": ""}, {"project": 5}, {"project": "p", "x": 1}, "x" * 9_000]
)
def test_odd_bodies_are_refused(cast: Cast, valkey: redis.Redis, body: Any) -> None:
    assert ask(log_in(cast.owner), cast, body).status_code == 400


def test_a_person_gets_so_many_a_minute(cast: Cast, valkey: redis.Redis) -> None:
    valkey.set(counter_of(f"u{cast.owner.pk}:{cast.organization.pk}")[0], MOST_A_MINUTE)
    assert ask(log_in(cast.owner), cast).status_code == 429
    assert ask(log_in(cast.admin), cast).status_code == 200


def test_it_ends_with_what_it_stands_for(cast: Cast, valkey: redis.Redis) -> None:
    def principal() -> object:
        return people.get_member_principal(lookup)

    membership = Membership.objects.get(organization=cast.organization, user=cast.member)
    lookup = people.credentials_of_member(membership, cast.project).lookup
    assert principal() is not None
    owner = get_actor(Membership.objects.get(organization=cast.organization, user=cast.owner))
    actions.change_member_role(membership, Role.VIEWER, actor=owner)
    assert principal() is None
    actions.change_member_role(membership, Role.DEVELOPER, actor=owner)
    cast.member.is_active = False
    cast.member.save()
    assert principal() is None
    cast.member.is_active = True
    cast.member.save()
    assert principal() is not None
    actions.remove_member(membership, actor=owner)
    assert principal() is None


@pytest.mark.parametrize(
    "lookup", ["member:", "member:1:2:3", "member:a:b:c:d", "member:1:2:3:4:5", "member:-1:2:3:4"]
)
def test_a_lookup_that_is_none_finds_nobody(cast: Cast, lookup: str) -> None:
    assert people.get_member_principal(lookup) is None


def test_no_header_says_that_it_is_a_member(cast: Cast) -> None:
    from tenants import keys

    membership = Membership.objects.get(organization=cast.organization, user=cast.owner)
    held = people.credentials_of_member(membership, cast.project)
    for prefix in ("", *keys.PREFIXES.values()):
        assert keys.lookup_of(prefix + held.lookup) != held.lookup


def test_a_page_calls_a_model_and_its_project_pays(simulated: Platform) -> None:
    demo = simulated.demo
    with httpx.Client(base_url=simulated.url, follow_redirects=True) as browser:
        page = browser.get("/accounts/login/")
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)
        assert token is not None
        form = {
            "csrfmiddlewaretoken": token[1], "login": demo["SLUICE_OWNER_EMAIL"],
            "password": demo["SLUICE_OWNER_PASSWORD"],
        }  # fmt: skip
        home = browser.post("/accounts/login/", data=form)
        organization = re.search(r"/o/(\w+)/", str(home.url) + home.text)
        assert organization is not None
        project = simulated.admin().projects.list().data[0].id
        issued = browser.post(
            f"/o/{organization[1]}/playground/tickets/",
            json={"project": project},
            headers={"X-CSRFToken": browser.cookies["csrftoken"], "Origin": simulated.url},
        )
    assert issued.status_code == 200, issued.text
    address = simulated.url.replace("http", "ws", 1) + "/v1/stream"
    body = {
        "model": CHAT_MODEL, "max_tokens": 4, "messages": [{"role": "user", "content": "Hi"}],
    }  # fmt: skip
    frame = {"type": "request", "id": "a", "endpoint": "/v1/chat/completions", "body": body}
    options: dict[str, Any] = {
        "subprotocols": issued.json()["subprotocols"], "origin": simulated.url,
    }  # fmt: skip
    with connect(address, **options) as socket:
        socket.send(json.dumps(frame))
        answer = json.loads(socket.recv(timeout=20))
        done = json.loads(socket.recv(timeout=20))
    assert answer["type"] == "response", answer
    row = wait_for(
        lambda: simulated.query(
            "SELECT p.public_id, e.api_key_id, e.completion_tokens, e.cost_micros > 0 "
            "FROM billing_usageevent e JOIN tenants_project p ON p.id = e.project_id "
            "WHERE request_id = %s",
            done["request_id"],
        ),
        20,
    )[0]
    assert row == (project, None, answer["data"]["usage"]["completion_tokens"], True)
    with connect(address, **options) as socket:
        again = json.loads(socket.recv(timeout=20))
    assert again["error"]["code"] == "invalid_api_key", "a ticket is good once"
