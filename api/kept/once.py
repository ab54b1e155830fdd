"""``Idempotency-Key`` where no tokens run: files, batches and the like."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from api.controls import DEFAULT, key_of
from api.dialect import OPENAI
from api.errors import INTERNAL, api_error
from api.gateway import Gateway
from api.http import JSON, Request, Response
from api.kept import answers, claims
from inference import stream_log
from inference.errors import InferenceError
from inference.stream_log import Event, Writer
from tenants.errors import TenantError
from tenants.principal import Principal

log = logging.getLogger(__name__)


async def once(
    gateway: Gateway,
    principal: Principal,
    request: Request,
    key: bytes,
    work: Callable[[], Awaitable[Response]],
    fingerprint: str = "",
) -> Response:
    """What ``work`` answered the first time. It goes on if the client leaves, as far as it has
    what it needs of it. ``fingerprint`` is the request's, if its body was read already."""
    fingerprint = fingerprint or await _fingerprint(request)
    path, asked = request.scope["path"], key_of([key])
    assert asked is not None
    claim, writer = await claims.claim(
        gateway.logs, principal, asked, fingerprint, request.request_id, path
    )
    if writer is None:
        return await answers.again(gateway, request, claim.log_id, DEFAULT, OPENAI)
    return await asyncio.shield(asyncio.create_task(_work(writer, request, work)))


async def _work(
    writer: Writer, request: Request, work: Callable[[], Awaitable[Response]]
) -> Response:
    state = stream_log.FAILED
    response = Response(INTERNAL.status, [JSON], INTERNAL.body())
    try:
        response = await work()
    except (TenantError, InferenceError) as error:
        found = api_error(error)
        response = Response(found.status, [JSON, *found.headers], found.body())
    finally:
        if response.stream is None and claims.is_final(response.status):
            writer.append(Event(response.body))
            state = stream_log.DONE
        await writer.end(state, response.status, is_stream=False)
    return response


async def _fingerprint(request: Request) -> str:
    """Of the body, if it is JSON, which is then there for the handler to read. An upload is not
    gathered for this: of it the length counts."""
    kind = (request.header(b"content-type") or b"").partition(b";")[0].strip().lower()
    content = b"%b %b" % (kind, request.header(b"content-length") or b"")
    if kind == b"application/json":
        content = await request.json_body()
        request.receive = _replayed(content)
    return claims.fingerprint_of(request.scope["method"], request.scope["path"], content)


def _replayed(body: bytes) -> Callable[[], Awaitable[dict[str, Any]]]:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive
