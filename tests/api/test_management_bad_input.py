"""Whatever is sent to whichever endpoint: a status of 4xx, OpenAI's shape, never a 500."""

from __future__ import annotations

import json
import os
import random
from typing import Any

import pytest
from django.test import Client

from tests.api.management import Caller
from tests.api.test_matrix import (
    ENDPOINTS,
    Endpoint,
    World,
    body_of,
    built,
    error_of,
    ids_of,
    send,
    world,
)
from tests.cast import Cast

__all__ = ["built", "world"]


@pytest.fixture
def cast(world: World) -> Cast:
    return world.cast


WITH_BODY = [e for e in ENDPOINTS if e.operation and e.operation.body]
WITH_QUERY = [e for e in ENDPOINTS if e.operation and e.operation.query]
DEEP = b"[" * 20_000 + b"]" * 20_000
RAW: dict[str, tuple[bytes, str, int]] = {
    "no JSON": (b"{", "application/json", 400),
    "not an object": (b"[1]", "application/json", 400),
    "null": (b"null", "application/json", 400),
    "deep": (b'{"name": ' + DEEP + b"}", "application/json", 400),
    "not UTF-8": (b'{"name": "\xff"}', "application/json", 400),
    "lone surrogate": (b'{"name": "\\ud800x"}', "application/json", 400),
    "NaN": (b'{"name": NaN}', "application/json", 400),
    "form": (b"name=a", "application/x-www-form-urlencoded", 415),
    "text": (b'{"name": "a"}', "text/plain", 415),
    "too large": (b'{"name": "' + b"a" * 300_000 + b'"}', "application/json", 413),
}
VALUES: list[Any] = [
    None, True, 0, -1, 1.5, 2**31, 2**63, 10**400, "", "\0", "a\0b", "x" * 1000, "\u202e", "'; --",
    [], ["\0"], [None], [[]], {}, {"a": 1}, [{"id": "x"}], "𝕏", "\n",
]  # fmt: skip


# Every field meets some of the values and every value some of the fields, the same ones each
# time; all with all takes four minutes.
SOME = int(os.environ.get("SLUICE_ODD_VALUES", "5"))


def some(values: list[Any], where: str, at_most: int) -> list[Any]:
    return random.Random(where).sample(values, min(at_most, len(values)))


def raw_send(endpoint: Endpoint, world: World, raw: bytes, content_type: str) -> Any:
    return Client().generic(
        endpoint.method,
        endpoint.path(ids_of(endpoint, world.own)),
        raw,
        content_type=content_type,
        headers={"Authorization": f"Bearer {world.cast.owner_admin_key}"},
    )


@pytest.mark.parametrize("endpoint", WITH_BODY, ids=str)
def test_bodies_that_are_none(world: World, endpoint: Endpoint) -> None:
    for name, (raw, content_type, status) in RAW.items():
        response = raw_send(endpoint, world, raw, content_type)
        assert response.status_code == status, (name, response.content)
        error_of(response)


@pytest.mark.parametrize("endpoint", WITH_BODY, ids=str)
def test_an_unknown_field_is_named(world: World, endpoint: Endpoint) -> None:
    body = body_of(endpoint, world.own) or {}
    for name in ("frobnicate", "a.b", "__class__"):
        response = send(
            endpoint,
            world.cast.owner_admin_key,
            ids_of(endpoint, world.own),
            body | {name: 1},
        )
        error = error_of(response)
        assert (response.status_code, error["code"]) == (400, "unknown_parameter")
        assert error["param"] == name


@pytest.mark.parametrize("endpoint", WITH_BODY, ids=str)
def test_odd_values_in_every_field(world: World, endpoint: Endpoint) -> None:
    assert endpoint.operation is not None and endpoint.operation.body is not None
    body, ids = body_of(endpoint, world.own) or {}, ids_of(endpoint, world.own)
    for name in endpoint.operation.body.__struct_fields__:
        for value in some(VALUES, f"{endpoint} {name}", SOME):
            raw = json.dumps(body | {name: value}).encode()
            response = raw_send(endpoint, world, raw, "application/json")
            assert response.status_code < 500, (name, value, response.content)
            if response.status_code >= 400:
                error_of(response)
    assert ids is not None


@pytest.mark.parametrize("endpoint", WITH_QUERY, ids=str)
def test_odd_queries(world: World, endpoint: Endpoint) -> None:
    assert endpoint.operation is not None and endpoint.operation.query is not None
    names = [*endpoint.operation.query.__struct_fields__, "frobnicate", "format", "[]", "a[b][c]"]
    values = ["", "%00", "-1", "9" * 40, "%ED%A0%80", "null", "page_0"]
    path = endpoint.path(ids_of(endpoint, world.own))
    key = {"Authorization": f"Bearer {world.cast.owner_admin_key}"}
    shapes = [f"{name}={value}" for name in names for value in values]
    shapes += [f"{name}{suffix}=%00&{name}=1" for name in names for suffix in ("[]", "[gt]", "[")]
    for shape in some(shapes, str(endpoint), 4 * SOME):
        response = Client().get(f"{path}?{shape}", headers=key)
        assert response.status_code < 500, (shape, response.content)
        if response.status_code >= 400:
            error_of(response)
    many = "&".join(f"a{number}=1" for number in range(2000))
    assert Client().get(f"{path}?{many}", headers=key).status_code == 400


def test_an_unknown_query_parameter_is_named(owner: Caller) -> None:
    error = owner.get("/projects?archived=true", 400)
    assert (error["code"], error["param"]) == ("unknown_parameter", "archived")


@pytest.mark.parametrize(
    "header", ["Basic YTpi", "Bearer", "Bearer ", "Bearer a b", "bearer \xe9", "x" * 9000]
)
def test_odd_authorization(cast: Cast, header: str) -> None:
    response = Client().get("/v1/organization/projects", headers={"Authorization": header})
    assert response.status_code == 401
    assert error_of(response)["code"] == "invalid_api_key"


@pytest.mark.parametrize(
    "path",
    [
        "/v1/organization", "/v1/organization/", "/v1/organization/nothing",
        "/v1/organization/projects/", "/v1/organization/projects/a%00b", "/v1/projects",
        "/v1/organization/projects/" + "x" * 3000, "/v1/organization/projects/..%2f..%2f",
        "/v1/organization/projects/é", "/v1/organization//projects",
    ],
)  # fmt: skip
def test_addresses_that_are_none(owner: Caller, path: str) -> None:
    response = owner.send("GET", path)
    assert response.status_code == 404
    assert error_of(response)["code"] in ("unknown_url", "not_found")
    assert len(response.headers["x-request-id"]) == 24


def test_random_bodies(owner: Caller, cast: Cast) -> None:
    chance = random.Random(7)
    path = f"/projects/{cast.project.public_id}/api_keys"
    fields = [
        "name",
        "scopes",
        "allowed_models",
        "allowed_networks",
        "expires_in_seconds",
        "limits",
    ]
    for _ in range(200):
        body = {name: chance.choice(VALUES) for name in chance.sample(fields, 3)}
        response = owner.send("POST", path, body)
        assert response.status_code in (200, 400), response.content


def test_session_and_foreign_headers_open_nothing(cast: Cast) -> None:
    """A logged-in owner is nobody here: keys only, so there is nothing to forge."""
    client = Client()
    client.force_login(cast.owner)
    assert client.get("/v1/organization/projects").status_code == 401
    headers = {"Authorization": f"Bearer {cast.stranger_admin_key}"}
    shown = client.get("/v1/organization/users", headers=headers).json()
    assert {user["email"] for user in shown["data"]} == {cast.stranger.email}


def test_a_flood_is_refused_with_retry_after(owner: Caller, settings: Any) -> None:
    settings.MANAGEMENT_REQUESTS_PER_MINUTE = 5
    answers = [owner.send("GET", "/projects") for _ in range(12)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused and answers[0].status_code == 200
    assert 1 <= int(refused[0].headers["retry-after"]) <= 60
    assert error_of(refused[0])["code"] == "rate_limit_exceeded"
