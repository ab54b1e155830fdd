"""A body that is too large or too slow is refused while it arrives."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from api.management.edge import bounded
from api.management.operation import MOST_BYTES


async def ask(parts: list[bytes], stalls: bool = False) -> tuple[int, bytes]:
    """What an application that reads its whole body answers to these parts."""
    waiting, sent = list(parts), []

    async def receive() -> dict[str, Any]:
        if not waiting:
            await asyncio.sleep(60)
        part = waiting.pop(0)
        more = bool(waiting) or stalls
        return {"type": "http.request", "body": part, "more_body": more}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def application(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["more_body"]:
            pass
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    await bounded(application, {"type": "http"}, receive, send)
    return sent[0]["status"], sent[1]["body"]


async def test_a_body_within_the_bound_passes() -> None:
    assert (await ask([b"a" * (MOST_BYTES - 1), b"b"]))[0] == 200


async def test_a_body_without_end_is_cut_off() -> None:
    status, body = await ask([b"a" * 65_536] * 10_000)
    assert (status, json.loads(body)["error"]["code"]) == (413, "request_too_large")


async def test_a_body_that_stalls_is_cut_off(settings: Any) -> None:
    settings.BODY_TIMEOUT_S = 0.05
    status, body = await ask([b"{"], stalls=True)
    assert (status, json.loads(body)["error"]["code"]) == (408, "request_timeout")


@pytest.mark.parametrize(
    ("path", "is_ours"),
    [
        ("/v1/organization", True), ("/v1/organization/users", True), ("/v1/projects/p", True),
        ("/v1/organizations", False), ("/v1/chat/completions", False), ("/v1/projectsx", False),
    ],
)  # fmt: skip
def test_the_path_alone_routes(path: str, is_ours: bool) -> None:
    from api.asgi import is_management_path, is_token_path

    assert (is_management_path(path), is_token_path(path)) == (is_ours, not is_ours)
