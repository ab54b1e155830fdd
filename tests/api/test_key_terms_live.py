"""What a key was given to do holds over HTTP and on the socket: scopes, models, addresses."""

from __future__ import annotations

import json
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from tests.api.test_stream_socket import frames_until_done, socket
from tests.harness.platform import CHAT_MODEL, EMBEDDING_MODEL, Platform

CHAT, COMPLETIONS, EMBEDDINGS = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
BODIES = {
    CHAT: {"model": CHAT_MODEL, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2},
    COMPLETIONS: {"model": CHAT_MODEL, "prompt": "Hi", "max_tokens": 2},
    EMBEDDINGS: {"model": EMBEDDING_MODEL, "input": "Hi"},
}
SCOPES = {
    CHAT: "inference.chat",
    COMPLETIONS: "inference.completions",
    EMBEDDINGS: "inference.embeddings",
    "/v1/models": "models.read",
}
# One run of manage.py for as many keys as a test needs: starting it takes seconds.
MAKE = """
import json
from tenants import actions
from tenants.models import ApiKey, Organization, Project
organization = Organization.objects.get(name="Acme")
made = {}
for name, fields in json.loads('''%s''').items():
    project = organization.projects.order_by("pk").first()
    if in_project := fields.pop("in_project", None):
        project = Project.objects.create(organization=organization, name=name, **in_project)
    owner = organization if fields.pop("is_admin", False) else project
    key, text = actions.create_api_key(owner, name, acting_user=None)
    ApiKey.objects.filter(pk=key.pk).update(**fields)
    made[name] = [text, key.public_id]
print("MADE", json.dumps(made))
"""


def make_keys(
    platform: Platform, wanted: dict[str, dict[str, Any]], *, with_ids: bool = False
) -> dict[str, Any]:
    """Secrets by name; ``wanted`` are columns, ``in_project`` those of a project of its own."""
    out = platform.manage("shell", "-v", "0", "-c", MAKE % json.dumps(wanted))
    made = json.loads(out.partition("MADE ")[2])
    return {name: tuple(pair) if with_ids else pair[0] for name, pair in made.items()}


@pytest.fixture(scope="module")
def given(simulated: Platform) -> dict[str, str]:
    return make_keys(
        simulated,
        {
            **{scope: {"scopes": [scope]} for scope in SCOPES.values()},
            "admin": {"is_admin": True},
            "this model": {"allowed_models": [CHAT_MODEL]},
            "other model": {"allowed_models": [EMBEDDING_MODEL]},
            "no such model": {"allowed_models": ["gone"]},
            "denied by project": {"in_project": {"denied_models": [CHAT_MODEL]}},
            "allowed by half": {
                "allowed_models": [CHAT_MODEL],
                "in_project": {"allowed_models": [EMBEDDING_MODEL]},
            },
            "elsewhere": {"allowed_networks": ["203.0.113.0/24"]},
            "here": {"allowed_networks": ["127.0.0.0/8"]},
        },
    )


def refusal_on_socket(platform: Platform, key: str, endpoint: str) -> dict[str, Any] | None:
    """The error of one request on a socket, or None if it was answered."""
    with socket(platform, key) as connection:
        connection.send(
            json.dumps(
                {"type": "request", "id": "a", "endpoint": endpoint, "body": BODIES[endpoint]}
            )
        )
        first = frames_until_done(connection, {"a"})["a"][0]
    return first["error"] if first["type"] == "error" else None


@pytest.mark.parametrize("path", BODIES)
def test_a_scope_opens_its_endpoint_and_no_other(
    simulated: Platform, given: dict[str, str], path: str
) -> None:
    for scope in SCOPES.values():
        with simulated.http(given[scope]) as client:
            answer = client.post(path, json=BODIES[path])
        error = refusal_on_socket(simulated, given[scope], path)
        if scope == SCOPES[path]:
            assert (answer.status_code, error) == (200, None)
        else:
            assert answer.status_code == 403
            for refused in (answer.json()["error"], error):
                assert refused["code"] == "insufficient_permissions"
                assert SCOPES[path] in refused["message"]


def test_models_are_listed_with_their_scope_only(
    simulated: Platform, given: dict[str, str]
) -> None:
    for scope in SCOPES.values():
        with simulated.http(given[scope]) as client:
            expected = 200 if scope == "models.read" else 403
            assert client.get("/v1/models").status_code == expected
            assert client.get(f"/v1/models/{CHAT_MODEL}").status_code == expected


@pytest.mark.parametrize("path", BODIES)
def test_an_admin_key_never_infers(simulated: Platform, given: dict[str, str], path: str) -> None:
    with simulated.http(given["admin"]) as client:
        assert client.post(path, json=BODIES[path]).status_code == 403
        assert client.get("/v1/models").status_code == 403
    error = refusal_on_socket(simulated, given["admin"], path)
    assert error is not None and error["code"] == "insufficient_permissions"


@pytest.mark.parametrize(
    ("name", "usable"),
    [
        ("this model", {CHAT_MODEL}),
        ("other model", {EMBEDDING_MODEL}),
        ("no such model", set()),
        ("denied by project", {EMBEDDING_MODEL}),
        ("allowed by half", set()),
        ("here", {CHAT_MODEL, EMBEDDING_MODEL}),
    ],
)
def test_a_model_that_is_not_allowed_does_not_exist(
    simulated: Platform, given: dict[str, str], name: str, usable: set[str]
) -> None:
    with simulated.http(given[name]) as client:
        assert {model["id"] for model in client.get("/v1/models").json()["data"]} == usable
        for path, body in BODIES.items():
            answer = client.post(path, json=body)
            error = refusal_on_socket(simulated, given[name], path)
            shown = client.get(f"/v1/models/{body['model']}")
            if body["model"] in usable:
                assert (answer.status_code, shown.status_code, error) == (200, 200, None)
                continue
            absent = client.post(path, json={**body, "model": "x" * len(body["model"])})
            assert answer.status_code == shown.status_code == absent.status_code == 404
            for refused in (answer.json()["error"], shown.json()["error"], error):
                assert refused["code"] == "model_not_found"
            assert answer.text.replace(body["model"], "") == absent.text.replace(
                "x" * len(body["model"]), ""
            )


def test_an_alias_is_held_to_its_models_lists(simulated: Platform, given: dict[str, str]) -> None:
    aliases = [name for (name,) in simulated.query("SELECT name FROM inference_modelalias")]
    for alias in aliases:
        with simulated.http(given["no such model"]) as client:
            assert client.get(f"/v1/models/{alias}").status_code == 404
            answer = client.post(CHAT, json={**BODIES[CHAT], "model": alias})
            assert answer.status_code == 404


def test_a_key_of_other_addresses_is_refused_at_every_door(
    simulated: Platform, given: dict[str, str]
) -> None:
    with simulated.http(given["elsewhere"]) as client:
        for answer in (client.get("/v1/models"), client.post(CHAT, json=BODIES[CHAT])):
            assert answer.status_code == 403
            assert answer.json()["error"]["code"] == "ip_not_authorized"
    with socket(simulated, given["elsewhere"]) as connection:
        assert json.loads(connection.recv(timeout=10))["error"]["code"] == "ip_not_authorized"
        with pytest.raises(ConnectionClosed):
            connection.recv(timeout=10)
    assert refusal_on_socket(simulated, given["here"], CHAT) is None
