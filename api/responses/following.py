"""The events of a kept response as a stream: live on any gateway, from its log, or made anew."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from django.conf import settings

from api import sse
from api.dialect import RESPONSES
from api.errors import ApiError
from api.gateway import Gateway
from api.http import EVENT_STREAM, Response
from api.kept import answers
from api.kept.producer import Numbered
from api.resources import Caller, DatabaseAway
from api.responses.replay import ending, replayed
from inference import stream_log
from inference.answers.selectors import get_response
from inference.errors import InvalidRequest, NoReplica
from inference.stream_log import MOST_EVENTS, Event, LogUnavailable, Meta
from tenants.errors import NotFound
from tenants.models import ApiKey, Project

# Who makes a response ends its log. If nothing comes for so long, its row is looked at.
LOOK_EVERY_S = 2.0
_OPEN = ("queued", "in_progress")
_GONE = ApiError(
    400,
    "The events of this response are not kept any more; retrieve it without 'stream'.",
    "invalid_request_error",
    None,
    "stream_expired",
)


def log_id_of(public_id: str) -> str:
    return public_id.removeprefix("resp_")


async def stream(
    gateway: Gateway, caller: Caller, public_id: str, starting_after: int | None
) -> Response:
    """Events after that number; None: from the first on. Raises NotFound and InvalidRequest."""
    if starting_after is not None and not 0 <= starting_after <= MOST_EVENTS:
        raise InvalidRequest(f"An event's number is 0 to {MOST_EVENTS}.", param="starting_after")
    # Who reads a log asks Redis ten times a second.
    if gateway.requests > settings.MAX_IN_FLIGHT:
        raise NoReplica("This server is at its capacity. Try again shortly.")
    response = await caller.work(_response, public_id)
    meta = await gateway.logs.meta(log_id_of(public_id))
    if meta is not None and meta.is_durable and answers.may_read(caller.principal, meta):
        after = 0 if starting_after is None else starting_after + 1
        events = _follow(gateway, caller, public_id, meta, after)
    else:
        events = _again(response, starting_after)
    return Response(200, EVENT_STREAM, stream=answers.frames(events, RESPONSES, with_ids=False))


def _response(project: Project, key: ApiKey, public_id: str) -> dict[str, Any]:
    response: dict[str, Any] = get_response(project, public_id)["response"]
    return response


def _again(response: dict[str, Any], starting_after: int | None) -> AsyncIterator[Numbered]:
    """Made from the answer, if all of it is wanted: numbers are those of this stream alone."""
    if response["status"] in _OPEN:
        raise _refused(
            "stream_unavailable",
            "stream",
            "This response was created without 'stream', or its events are too many to be kept; "
            "retrieve it until it has ended.",
        )
    if starting_after is not None:
        raise _refused(
            "stream_expired",
            "starting_after",
            "The events of this response are not kept any more. Leave out 'starting_after' to have "
            "it as a new stream.",
        )

    async def events() -> AsyncIterator[Numbered]:
        yield [(number, Event(event)) for number, event in enumerate(replayed(response), 1)]

    return events()


def _refused(code: str, param: str, message: str) -> InvalidRequest:
    error = InvalidRequest(message, param=param)
    error.code = code
    return error


async def _follow(
    gateway: Gateway, caller: Caller, public_id: str, meta: Meta, after: int
) -> AsyncIterator[Numbered]:
    """From the log; an empty list now and then."""
    quiet_s = looked_s = 0.0
    async for state, events in gateway.logs.follow(log_id_of(public_id), after):
        if events:
            after, quiet_s, looked_s = events[-1][0], 0.0, 0.0
            yield events
        elif state in (stream_log.GONE, stream_log.FULL):
            yield [(after + 1, Event(RESPONSES.error(_GONE, "").body))]
        elif state == stream_log.OPEN:
            quiet_s, looked_s = quiet_s + stream_log.POLL_S, looked_s + stream_log.POLL_S
            if looked_s >= LOOK_EVERY_S:
                looked_s = 0.0
                await _look(gateway, caller, public_id, meta)
            if quiet_s >= sse.KEEP_ALIVE_S:
                quiet_s = 0.0
                yield []


async def _look(gateway: Gateway, caller: Caller, public_id: str, meta: Meta) -> None:
    """End the log of a response that has ended and whose maker did not come to that."""
    try:
        response = await caller.work(_response, public_id)
    except (DatabaseAway, NoReplica):  # then next time
        return
    except NotFound:
        await gateway.logs.drop(log_id_of(public_id), meta.organization)
        return
    if response["status"] not in _OPEN:
        await close(gateway, response, meta)


async def close(gateway: Gateway, response: dict[str, Any], meta: Meta | None = None) -> None:
    """Tell readers how a response has ended that nobody makes. What cannot be told now is told
    by whoever looks next."""
    log_id = log_id_of(response["id"])
    with contextlib.suppress(LogUnavailable):
        meta = meta or await gateway.logs.meta(log_id)
        if meta is not None and meta.is_durable:
            last = await gateway.logs.last(log_id)
            await gateway.logs.finish(log_id, meta, last, Event(ending(response, last)))


async def forget(gateway: Gateway, caller: Caller, public_id: str) -> None:
    """The response is deleted, and so are its events."""
    log_id = log_id_of(public_id)
    with contextlib.suppress(LogUnavailable):  # then it expires
        meta = await gateway.logs.meta(log_id)
        if meta is not None and answers.may_read(caller.principal, meta):
            await gateway.logs.drop(log_id, meta.organization)
