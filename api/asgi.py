"""The token path's outer edge: routes, the error shape, and clients that leave.

Raw ASGI instead of Django views, because these requests are the product's hot
path: a middleware chain costs more than everything else they do here. The path
alone routes (never the Host header), and the same path that routes is the one
that was authenticated.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from functools import partial
from typing import Protocol

from django.conf import settings

from api import counting, resources, service, unsupported
from api.access_log import log_access
from api.batches import handler as batch_handler
from api.chat_completions import handler as chat_handler
from api.chat_completions import resources as chat_resources
from api.completions import handler as completion_handler
from api.controls import DEFAULT, IDEMPOTENCY_KEY, Controls, controls_of
from api.dialect import ANTHROPIC, OPENAI, Dialect, dialect_of
from api.embeddings import handler as embedding_handler
from api.errors import INTERNAL, ApiError, MethodNotAllowed, UnknownPath, api_error
from api.files import handler as file_handler
from api.gateway import Gateway, current_gateway
from api.http import (
    ClientDisconnected,
    Receive,
    Request,
    Response,
    Scope,
    Send,
    authorization_of,
    check_method,
    json_response,
    send_head,
    send_whole,
    wire_of,
)
from api.kept import answers
from api.kept.once import once
from api.messages import handler as message_handler
from api.models import anthropic as anthropic_models
from api.models import handler as model_handler
from api.responses import background
from api.responses import handler as response_handler
from api.responses import resources as response_resources
from api.run import Run
from api.scoring import handler as scoring_handler
from api.stream import tickets
from api.streaming import Call, stream
from api.streams import handler as stream_handler
from api.tokenize import handler as token_handler
from api.uploads import handler as upload_handler
from inference import metrics
from inference.errors import InferenceError, NoReplica
from tenants.errors import AccessDenied, TenantError
from tenants.principal import Principal

log = logging.getLogger(__name__)

# An abort reaches the engine within 100 ms of the disconnect; this is half of it.
WATCH_AFTER_S = 0.05
HTTP_SERVICE_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})


class Prepare(Protocol):
    async def __call__(
        self,
        gateway: Gateway,
        principal: Principal,
        raw: bytes,
        request_id: str,
        started_at: float,
        controls: Controls = DEFAULT,
    ) -> Call: ...


# Endpoint path to the steps that turn its body into a call; the WebSocket has the same.
ENDPOINTS: dict[str, Prepare] = {
    "/v1/chat/completions": chat_handler.prepare,
    "/v1/completions": completion_handler.prepare,
    "/v1/embeddings": embedding_handler.prepare,
    "/v1/messages": message_handler.prepare,
    "/v1/rerank": scoring_handler.prepare_rerank,
    "/rerank": scoring_handler.prepare_rerank,
    "/v2/rerank": scoring_handler.prepare_second_rerank,
    "/v1/score": scoring_handler.prepare_score,
    "/score": scoring_handler.prepare_score,
    "/v1/responses": response_handler.prepare,
}
# Those that no engine works for; vLLM's server has them without ``/v1``.
COUNTERS: dict[str, counting.Prepare] = {
    "/v1/messages/count_tokens": message_handler.prepare_count,
    "/v1/responses/input_tokens": response_handler.prepare_count,
    "/v1/tokenize": token_handler.prepare_tokenize,
    "/tokenize": token_handler.prepare_tokenize,
    "/v1/detokenize": token_handler.prepare_detokenize,
    "/detokenize": token_handler.prepare_detokenize,
}


# What a key must be allowed to call each (``tenants.permissions.KEY_SCOPES``).
SCOPES = {
    "/v1/chat/completions": "inference.chat",
    "/v1/completions": "inference.completions",
    "/v1/embeddings": "inference.embeddings",
    "/v1/messages": "inference.chat",
    "/v1/messages/count_tokens": "inference.chat",
    **dict.fromkeys(
        ("/v1/rerank", "/rerank", "/v2/rerank", "/v1/score", "/score"), "inference.rerank"
    ),
    "/v1/responses": "inference.chat",
    "/v1/responses/input_tokens": "inference.chat",
    "/v1/tokenize": "inference.tokenize",
    "/tokenize": "inference.tokenize",
    "/v1/detokenize": "inference.tokenize",
    "/detokenize": "inference.tokenize",
    "/v1/models": "models.read",
}
# Paths of vLLM's server, and Cohere's, that their clients ask for.
BARE_PATHS = frozenset(path for path in SCOPES if not path.startswith("/v1/"))
# By the path's first part; each route has a scope of its own.
RESOURCES: dict[str, list[resources.Route]] = {
    "files": file_handler.ROUTES,
    "batches": batch_handler.ROUTES,
    "uploads": upload_handler.ROUTES,
    "responses": [*response_resources.ROUTES, *unsupported.RESPONSES],
    "chat": chat_resources.ROUTES,
}
# OpenAI's clients ask for the roles of a project beside the organization.
MANAGEMENT_PATHS = ("/v1/organization", "/v1/projects")
DOCUMENT_PATH = "/v1/openapi.json"  # Django's, which caches it for its clients


def is_management_path(path: str) -> bool:
    return any(path == root or path.startswith(root + "/") for root in MANAGEMENT_PATHS)


def is_token_path(path: str) -> bool:
    """Whether ``token_path`` answers this path; everything else is Django's."""
    if is_management_path(path) or path == DOCUMENT_PATH:
        return False
    return path.startswith("/v1/") or path in HTTP_SERVICE_PATHS or path in BARE_PATHS


def check_scope(principal: Principal, path: str) -> None:
    """Whether the caller's key may call this endpoint at all."""
    if principal.kind == "admin":
        raise AccessDenied("Admin keys manage an organization; use a project's key here.")
    if not principal.may(SCOPES[path]):
        raise AccessDenied(f"This API key lacks the scope {SCOPES[path]}.")


async def token_path(scope: Scope, receive: Receive, send: Send) -> None:
    """The ASGI application of every path that ``is_token_path``."""
    request = Request(scope, receive)
    path, status = scope["path"], 499
    gateway = current_gateway()
    gateway.requests += 1
    try:
        status = await _answer(gateway, request, path, send)
    except ClientDisconnected:
        pass
    except asyncio.CancelledError:
        if not request.is_gone:
            raise
    finally:
        gateway.requests -= 1
        if path not in HTTP_SERVICE_PATHS:
            log_access(request, path, status)


async def _answer(gateway: Gateway, request: Request, path: str, send: Send) -> int:
    dialect = dialect_of(request.scope)
    try:
        # Kept completions are listed where others are made.
        is_list = request.scope["method"] == "GET" and path == "/v1/chat/completions"
        if (prepare := ENDPOINTS.get(path)) and not is_list:
            check_method(request, "POST")
            return await _infer(gateway, request, prepare, send, dialect)
        response = await _plain(gateway, request, path, dialect)
    except (TenantError, InferenceError) as error:
        response = _error_response(api_error(error), request, dialect)
    except (ClientDisconnected, asyncio.CancelledError):
        raise
    except Exception:
        log.exception("request.failed", extra={"request_id": request.request_id, "path": path})
        response = _error_response(INTERNAL, request, dialect)
    return await _send_response(request, response, send)


async def _send_response(request: Request, response: Response, send: Send) -> int:
    if response.stream is not None:
        return await _send_stream(request, response, send)
    await send_whole(request, response, send)
    return response.status


# --- Inference endpoints -----------------------------------------------------------------


async def _caller(gateway: Gateway, request: Request, dialect: Dialect = OPENAI) -> Principal:
    principal = await gateway.authenticator.authenticate(
        dialect.authorization(request.scope), request.address
    )
    request.organization = principal.organization_public_id
    return principal


async def _infer(
    gateway: Gateway, request: Request, prepare: Prepare, send: Send, dialect: Dialect
) -> int:
    principal = await _caller(gateway, request, dialect)
    check_scope(principal, request.scope["path"])
    body = await request.json_body()
    if gateway.is_draining or gateway.requests > settings.MAX_IN_FLIGHT:
        raise NoReplica("This server is at its capacity. Try again shortly.")
    controls = controls_of(request.scope["headers"])
    if request.scope["path"] == background.PATH and background.is_asked_for(body):
        asked = await background.answer(gateway, principal, request, body, controls)
        return await _send_response(request, asked, send)
    if controls.is_kept:
        status = await _keep(gateway, request, principal, body, controls, prepare, send, dialect)
        if status:
            return status
    call = await prepare(gateway, principal, body, request.request_id, request.started_at, controls)
    current = asyncio.current_task()
    assert current is not None
    watcher = _watch(request, current)
    try:
        async with Run(gateway, call.plan) as run:
            if call.is_stream:
                run.wire = wire_of(request.scope)
                return await stream(request, call, run, send, dialect)  # type: ignore[arg-type]
            content = await call.whole(run)
            await run.settle()
            headers = dialect.headers(run.headers, request.request_id)
            await send_whole(request, json_response(content, headers), send)
            return 200
    finally:
        if watcher is not None:
            watcher.cancel()


async def _keep(
    gateway: Gateway,
    request: Request,
    principal: Principal,
    body: bytes,
    controls: Controls,
    prepare: Prepare,
    send: Send,
    dialect: Dialect,
) -> int:
    """Answer with what outlives this request; 0, and nothing is sent, if it cannot be kept."""
    inner = replace(controls, is_resumable=False)

    async def begin() -> Call:
        return await prepare(
            gateway, principal, body, request.request_id, request.started_at, inner
        )

    response = await answers.answer(gateway, principal, request, body, controls, begin, dialect)
    return 0 if response is None else await _send_response(request, response, send)


def _watch(request: Request, handler: asyncio.Task[None]) -> _Watcher | None:
    """Cancel the handler when its client goes away; leaving its run aborts the engine."""
    wire = wire_of(request.scope)
    if wire is None:
        return _Watcher(request, handler)

    def cancel() -> None:
        request.is_gone = True
        handler.cancel()

    wire.when_gone(cancel)
    return None


class _Watcher:
    """The same by ASGI alone, which must be asked: a while later, as most requests end before."""

    def __init__(self, request: Request, handler: asyncio.Task[None]):
        self._request = request
        self._handler = handler
        self._task: asyncio.Task[None] | None = None
        self._timer = asyncio.get_running_loop().call_later(WATCH_AFTER_S, self._begin)

    def cancel(self) -> None:
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    def _begin(self) -> None:
        self._task = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            pass
        self._request.is_gone = True
        self._handler.cancel()


# --- The rest ------------------------------------------------------------------------------


async def _plain(gateway: Gateway, request: Request, path: str, dialect: Dialect) -> Response:
    if path in HTTP_SERVICE_PATHS:
        return await service.answer(gateway, request, path)
    if (prepare := COUNTERS.get(path)) is not None:
        return await _count(gateway, request, path, prepare, dialect)
    if reason := unsupported.reason_of(request.scope["method"], path):
        raise unsupported.refusal(reason)
    if path == "/v1/models" or path.startswith("/v1/models/"):
        check_method(request, "GET")
        principal = await _caller(gateway, request, dialect)
        check_scope(principal, "/v1/models")
        name = path.removeprefix("/v1/models").removeprefix("/")
        if dialect is ANTHROPIC:
            found = anthropic_models.answer(gateway, principal, request, name)
            return json_response(found, dialect.headers([], request.request_id))
        if path == "/v1/models":
            return json_response(model_handler.list_models(gateway, principal))
        return json_response(model_handler.get_model(gateway, principal, name))
    if path == "/v1/stream/tickets":
        return await _ticket(gateway, request)
    if path.startswith("/v1/streams/"):
        return await _kept_stream(gateway, request, path.removeprefix("/v1/streams/"))
    routes = RESOURCES.get(path.removeprefix("/v1/").partition("/")[0])
    if routes is not None:
        return await _resource(gateway, request, path, routes)
    raise UnknownPath(f"Unknown request URL: {request.scope['method']} {path[:200]}.")


async def _ticket(gateway: Gateway, request: Request) -> Response:
    check_method(request, "POST")
    principal = await _caller(gateway, request)
    if principal.kind == "admin":
        raise AccessDenied("Admin keys manage an organization; use a project's key here.")
    held = gateway.authenticator.credentials_of(authorization_of(request.scope))
    return await tickets.issue(gateway, principal, request, held)


async def _kept_stream(gateway: Gateway, request: Request, log_id: str) -> Response:
    if request.scope["method"] not in ("GET", "POST"):
        raise MethodNotAllowed("Use GET or POST for /v1/streams/{request_id}.")
    principal = await _caller(gateway, request)
    return await stream_handler.read(gateway, principal, request, log_id, check_scope)


async def _count(
    gateway: Gateway, request: Request, path: str, prepare: counting.Prepare, dialect: Dialect
) -> Response:
    check_method(request, "POST")
    principal = await _caller(gateway, request, dialect)
    check_scope(principal, path)
    raw = await request.json_body()
    if gateway.is_draining:
        raise NoReplica("This server is at its capacity. Try again shortly.")
    content, headers = await counting.counted(
        gateway, principal, prepare, path, request.request_id, raw
    )
    return json_response(content, dialect.headers(headers, request.request_id))


async def _resource(
    gateway: Gateway, request: Request, path: str, routes: list[resources.Route]
) -> Response:
    method = request.scope["method"]
    found, methods = resources.find_route(routes, method, path)
    if not methods:
        raise UnknownPath(f"Unknown request URL: {method} {path[:200]}.")
    if found is None:
        raise MethodNotAllowed(f"Use {' or '.join(methods)} for {path[:200]}.")
    principal = await _caller(gateway, request)
    if gateway.is_draining:
        raise NoReplica("This server is at its capacity. Try again shortly.")
    key = request.header(IDEMPOTENCY_KEY) if method == "POST" else None
    if key is not None:
        work = partial(resources.answer, request, principal, found)
        return await once(gateway, principal, request, key, work)
    return await resources.answer(request, principal, found)


def _error_response(error: ApiError, request: Request, dialect: Dialect) -> Response:
    metrics.REFUSED.labels(error.code or error.kind).inc()
    return dialect.error(error, request.request_id)


async def _send_stream(request: Request, response: Response, send: Send) -> int:
    """A file in pieces; nothing more is read of it once its client is gone."""
    assert response.stream is not None
    current = asyncio.current_task()
    assert current is not None
    watcher = _Watcher(request, current)
    try:
        await send_head(request, response.status, response.headers, send)
        async for piece in response.stream:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
    finally:
        watcher.cancel()
    return response.status
