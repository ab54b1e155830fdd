"""The token path's part of the matrix: every endpoint × every key that may not call it."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import connection

from api import asgi
from tenants import actions, permissions
from tenants.authentication import Authenticator
from tests.api.test_matrix import DENIALS, build_world, row_counts
from tests.cast import Cast


async def ask(method: str, path: str, key: str | None) -> tuple[int, dict[str, Any]]:
    """One request through the token path's ASGI application."""
    headers = [(b"content-type", b"application/json")]
    if key is not None:
        headers.append((b"authorization", f"Bearer {key}".encode()))
    scope = {
        "type": "http", "method": method, "path": path, "headers": headers,
        "client": ("192.0.2.1", 1), "query_string": b"",
    }  # fmt: skip
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"{}", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await asgi.token_path(scope, receive, send)
    return sent[0]["status"], json.loads(sent[1]["body"])


TOKEN_PATHS = [
    *(("POST", path) for path in (*asgi.ENDPOINTS, *asgi.COUNTERS)),
    ("GET", "/v1/models"),
]
# In Anthropic's words, which know no codes.
KINDS = {401: "authentication_error", 403: "permission_error"}


def check_denial(path: str, answered: int, body: dict[str, Any], status: int, code: str) -> None:
    assert answered == status
    if path.startswith("/v1/messages"):
        assert set(body) == {"type", "error", "request_id"}
        assert set(body["error"]) == {"type", "message"}
        assert body["error"]["type"] == KINDS[status]
        return
    assert body["error"]["code"] == code
    assert set(body["error"]) == {"message", "type", "param", "code"}


def test_every_token_endpoint_declares_its_scope() -> None:
    assert {path for _, path in TOKEN_PATHS} == set(asgi.SCOPES)
    assert set(asgi.SCOPES.values()) <= permissions.KEY_SCOPES


@pytest.mark.parametrize(("method", "path"), TOKEN_PATHS)
async def test_token_path_refuses(
    transactional_db: None, monkeypatch: pytest.MonkeyPatch, method: str, path: str
) -> None:
    world = await asyncio.to_thread(_closed, build_world)
    others = permissions.KEY_SCOPES - {asgi.SCOPES[path]}
    lacking = await asyncio.to_thread(_closed, _project_key, world.cast, tuple(others))
    before = await asyncio.to_thread(_closed, row_counts)
    # Whoever is refused gets no further than the authenticator.
    stub = SimpleNamespace(authenticator=Authenticator(), requests=0)
    monkeypatch.setattr(asgi, "current_gateway", lambda: stub)
    expected = {
        **{reason: outcome for reason, outcome in DENIALS.items() if "key" not in str(reason)},
        "suspended key": (401, "invalid_api_key"),
    }
    cases = [(world.keys.get(reason or ""), outcome) for reason, outcome in expected.items()]
    cases.append((world.cast.owner_admin_key, (403, "insufficient_permissions")))
    cases.append((world.cast.suspended_key, (403, "organization_suspended")))
    cases.append((lacking, (403, "insufficient_permissions")))
    for key, (status, code) in cases:
        answered, body = await ask(method, path, key)
        check_denial(path, answered, body, status, code)
    assert await asyncio.to_thread(_closed, row_counts) == before


def _project_key(cast: Cast, scopes: tuple[str, ...]) -> str:
    terms = actions.KeyTerms(scopes=scopes)
    return actions.create_api_key(cast.project, "S", acting_user=cast.owner, terms=terms)[1]


def _closed(action: Any, *args: Any) -> Any:
    try:
        return action(*args)
    finally:
        connection.close()
