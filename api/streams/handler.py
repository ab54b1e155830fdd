"""Resuming a stream on any gateway: the id of the last event that was heard says where."""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec
from django.conf import settings

from api.gateway import Gateway
from api.http import EVENT_STREAM, Request, Response
from api.kept import answers
from api.resources import query_of
from inference.errors import InferenceError, InvalidRequest, NoReplica
from inference.stream_log import MOST_EVENTS, Meta
from tenants.principal import Principal

_LOG_ID = re.compile(r"[0-9a-f]{24}")
_NUMBER = re.compile(rb"[0-9]{1,9}")
LAST_EVENT = b"last-event-id"


class StreamNotFound(InferenceError):
    status = 404
    code = "stream_not_found"


class ResumeQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    starting_after: int = 0


def not_found(log_id: str) -> StreamNotFound:
    return StreamNotFound(f"No stream '{log_id[:64]}' is kept; one is for some minutes only.")


async def read(
    gateway: Gateway,
    principal: Principal,
    request: Request,
    log_id: str,
    check_scope: Callable[[Principal, str], None],
) -> Response:
    """The events after the one that the caller heard last; live if it still runs."""
    after = _position(request)
    meta = await access_log(gateway, principal, log_id, check_scope)
    # Who reads from a log elsewhere asks Redis ten times a second.
    if gateway.is_draining or gateway.requests > settings.MAX_IN_FLIGHT:
        raise NoReplica("This server is at its capacity. Try again shortly.")
    dialect = answers.dialect_of_log(meta)
    events = answers.resume(gateway, log_id, after, dialect)
    stream = answers.frames(events, dialect, with_ids=True)
    return Response(200, [*EVENT_STREAM, answers.RESUMABLE], stream=stream)


async def access_log(
    gateway: Gateway,
    principal: Principal,
    log_id: str,
    check_scope: Callable[[Principal, str], None],
) -> Meta:
    """Raises StreamNotFound, also for another project's, and AccessDenied."""
    meta = await gateway.logs.meta(log_id) if _LOG_ID.fullmatch(log_id) else None
    if meta is None or not answers.may_read(principal, meta):
        raise not_found(log_id)
    try:
        check_scope(principal, meta.endpoint)
    except KeyError:  # a file's or a batch's answer, kept for an Idempotency-Key
        raise not_found(log_id) from None
    return meta


def _position(request: Request) -> int:
    asked = query_of(request, ResumeQuery).starting_after
    header = request.header(LAST_EVENT)
    if header is not None:
        if not _NUMBER.fullmatch(header):
            raise InvalidRequest(
                "The header 'Last-Event-ID' is the id of an event.", param="last-event-id"
            )
        asked = int(header)
    if not 0 <= asked <= MOST_EVENTS:
        raise InvalidRequest(f"An event's id is 0 to {MOST_EVENTS}.", param="starting_after")
    return asked
