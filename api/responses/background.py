"""``background: true``: a response that is asked for here and made by a batch process.

Everything that a live request is refused for before it runs is refused at once; what comes later
is how the response ends (``api.responses.making``).
"""

from __future__ import annotations

import contextlib
import secrets
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec
from django.conf import settings

from api import stored
from api.controls import Controls
from api.errors import decoded
from api.gateway import Gateway
from api.http import Request, Response
from api.kept import claims
from api.kept.once import once
from api.resources import Caller, answered
from api.responses import following
from api.responses.handler import ResponseCall, call_of
from api.responses.wire import ResponseRequest, decode
from inference.answers.background import ask_for_response
from inference.errors import InvalidRequest
from inference.stream_log import Event, LogUnavailable, Meta
from tenants.errors import TenantError
from tenants.models import ApiKey, Project
from tenants.principal import Principal

PATH = "/v1/responses"


class NoRoomForStreams(TenantError):
    status = 429
    code = "stream_storage_full"
    kind = "rate_limit_error"
    retry_after_s = 60.0


class _Head(msgspec.Struct, frozen=True):
    background: bool | None = None


_decode_head = msgspec.json.Decoder(_Head).decode


def is_asked_for(raw: bytes) -> bool:
    """Whether a response's body says so; what is no such body is refused where others are."""
    if b'"background"' not in raw:
        return False
    try:
        return bool(_decode_head(raw).background)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False


async def answer(
    gateway: Gateway, principal: Principal, request: Request, raw: bytes, controls: Controls
) -> Response:
    """The queued response, or its events as they come."""
    body = decoded(decode, raw)
    caller = Caller(principal, request.address)
    work = partial(_create, gateway, caller, request, body, raw, controls)
    if controls.idempotency_key is None:
        created = await work()
    else:
        fingerprint = claims.fingerprint_of(request.scope["method"], PATH, raw)
        key = controls.idempotency_key
        created = await once(gateway, principal, request, key, work, fingerprint)
    if not body.stream or created.status != 200:
        return created
    public_id = msgspec.json.decode(created.body)["id"]
    return await following.stream(gateway, caller, public_id, None)


async def _create(
    gateway: Gateway,
    caller: Caller,
    request: Request,
    body: ResponseRequest,
    raw: bytes,
    controls: Controls,
) -> Response:
    principal = caller.principal
    _check_kept(body, principal)
    # An id of its own: the request's names the answer of its Idempotency-Key.
    log_id = secrets.token_hex(12)
    call = await call_of(
        ResponseCall, gateway, principal, body, log_id, request.started_at, controls
    )
    response, events = call.queued()
    asked = {
        "body": raw.decode(),
        "created_at": response["created_at"],
        "controls": replace(controls, is_resumable=False, idempotency_key=None),
    }
    if body.stream:
        await _begin_log(gateway, principal, log_id, events)
    try:
        await caller.work(_ask, body, response, call.items, asked)
    except BaseException:
        if body.stream:
            with contextlib.suppress(LogUnavailable):
                await gateway.logs.drop(log_id, principal.organization)
        raise
    return answered(response)


def _check_kept(body: ResponseRequest, principal: Principal) -> None:
    if body.store is False:
        raise InvalidRequest(
            "A response in the background is stored: leave out 'store'.", param="store"
        )
    if not stored.may_keep(principal):
        raise InvalidRequest(
            "Your organization keeps no answers, and a response in the background is one.",
            param="background",
        )


async def _begin_log(
    gateway: Gateway, principal: Principal, log_id: str, events: list[bytes]
) -> None:
    meta = Meta(
        principal.organization,
        principal.project,
        principal.api_key,
        PATH,
        is_durable=True,
        open_s=int(settings.BACKGROUND_EXPIRY_S),
    )
    if not await gateway.logs.begin_durable(log_id, meta, [Event(event) for event in events]):
        raise NoRoomForStreams(
            "Your organization keeps as many streams as it may; leave out 'stream' or wait."
        )


def _ask(
    project: Project,
    key: ApiKey,
    body: ResponseRequest,
    response: dict[str, Any],
    items: list[dict[str, Any]],
    asked: dict[str, Any],
) -> None:
    ask_for_response(
        project,
        api_key=key,
        response=response,
        items=items,
        request=asked,
        has_log=bool(body.stream),
        metadata=body.metadata,
        previous=body.previous_response_id or "",
    )
