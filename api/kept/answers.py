"""What a client gets of a kept answer: live, again, or from where it broke off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from api import sse
from api.controls import Controls
from api.dialect import OPENAI, Dialect, dialect_of
from api.errors import ApiError
from api.gateway import Gateway
from api.http import EVENT_STREAM, JSON, Request, Response, json_response
from api.kept import claims
from api.kept.claims import ClaimedBill
from api.kept.producer import Begin, Numbered, Producer
from inference import stream_log
from inference.stream_log import LogUnavailable, Meta
from tenants.principal import Principal

RESUMABLE = (b"x-sluice-resumable", b"true")
REPLAYED = (b"idempotent-replayed", b"true")

LOST = ApiError(
    503,
    "The server that made this answer is gone; ask again.",
    "server_error",
    None,
    "stream_lost",
)
FULL = ApiError(
    400,
    "This stream was too large to be kept; it cannot be resumed.",
    "invalid_request_error",
    None,
    "stream_too_large",
)


async def answer(
    gateway: Gateway,
    principal: Principal,
    request: Request,
    body: bytes,
    controls: Controls,
    begin: Begin,
    dialect: Dialect = OPENAI,
) -> Response | None:
    """The response, or None if the request asked for resumability only and cannot have it."""
    path = request.scope["path"]
    if controls.idempotency_key is None:
        return await _resumable(gateway, principal, request, begin, dialect)
    fingerprint = claims.fingerprint_of(request.scope["method"], path, body)
    claim, writer = await claims.claim(
        gateway.logs, principal, controls.idempotency_key, fingerprint, request.request_id, path
    )
    if writer is None:
        return await again(gateway, request, claim.log_id, controls, dialect)
    bill = ClaimedBill(writer, is_paid=claim.is_paid)
    return await _live(Producer(gateway, writer, begin, bill, dialect), request, controls)


async def _resumable(
    gateway: Gateway, principal: Principal, request: Request, begin: Begin, dialect: Dialect
) -> Response | None:
    try:
        meta = claims.meta_of(principal, request.scope["path"])
        writer = await gateway.logs.begin(request.request_id, meta)
    except LogUnavailable:
        return None
    if writer is None:
        return None
    producer = Producer(gateway, writer, begin, dialect=dialect)
    return await _live(producer, request, Controls(is_resumable=True))


async def _live(producer: Producer, request: Request, controls: Controls) -> Response:
    """What the producer makes, as it comes. Its head waits for its first event."""
    reading_while_this_runs(producer)
    await producer.begun()
    if not producer.is_stream:
        await producer.ended()
    if producer.failure is not None and not producer.is_stream:
        return producer.failure
    dialect = producer.dialect
    headers = dialect.headers(producer.headers, request.request_id)
    if controls.is_resumable:
        headers = [*headers, RESUMABLE]
    if not producer.is_stream:
        return json_response(producer.events[-1].data, headers)
    stream = frames(producer.read(), dialect, with_ids=controls.is_resumable)
    return Response(200, [*EVENT_STREAM, *headers], stream=stream)


def reading_while_this_runs(producer: Producer) -> None:
    """The task that calls is a reader until it ends, however it ends."""
    producer.join()
    task = asyncio.current_task()
    assert task is not None
    task.add_done_callback(lambda _: producer.leave())


async def again(
    gateway: Gateway, request: Request, log_id: str, controls: Controls, dialect: Dialect
) -> Response:
    """The answer that was given before, from its log."""
    meta = await gateway.logs.meta(log_id)
    if meta is None:  # it expired between the claim and now
        raise LogUnavailable("The answer has just been forgotten. Try again.")
    headers = dialect.headers([REPLAYED], request.request_id)
    if meta.is_stream:
        events = stored(gateway, log_id, 0, dialect)
        stream = frames(events, dialect, with_ids=controls.is_resumable)
        return Response(200, [*EVENT_STREAM, *headers], stream=stream)
    _, kept = await gateway.logs.read(log_id, 0, marks=False)
    if not kept:
        raise LogUnavailable("The answer has just been forgotten. Try again.")
    return Response(meta.status, [JSON, *headers], kept[-1][1].data)


def dialect_of_log(meta: Meta) -> Dialect:
    return dialect_of({"path": meta.endpoint, "headers": []})


def resume(gateway: Gateway, log_id: str, after: int, dialect: Dialect) -> AsyncIterator[Numbered]:
    """Events after number ``after``, wherever they are made; an empty list now and then. The
    last of a log that does not end as it should is an error."""
    producer = gateway.producers.get(log_id)
    if producer is None:
        return stored(gateway, log_id, after, dialect)
    reading_while_this_runs(producer)
    return producer.read(after)


async def stored(
    gateway: Gateway, log_id: str, after: int, dialect: Dialect
) -> AsyncIterator[Numbered]:
    """The same from the log alone."""
    quiet_s = 0.0
    async for state, events in gateway.logs.follow(log_id, after):
        if state in _BROKEN:
            content = dialect.error(_BROKEN[state], log_id).body
            yield [(after + 1, stream_log.Event(content))]
        elif events:
            after, quiet_s = events[-1][0], 0.0
            yield events
        elif state == stream_log.OPEN:
            quiet_s += stream_log.POLL_S
            if quiet_s >= sse.KEEP_ALIVE_S:
                quiet_s = 0.0
                yield []


_BROKEN = {stream_log.LOST: LOST, stream_log.GONE: LOST, stream_log.FULL: FULL}


async def frames(
    events: AsyncIterator[Numbered], dialect: Dialect, *, with_ids: bool
) -> AsyncIterator[bytes]:
    """Server-sent events, with a comment where nothing comes, and the end. Ids are for
    ``Last-Event-ID``."""
    frame = dialect.frame
    async for some in events:
        if with_ids:
            parts = [b"id: %d\n%b" % (number, frame(event.data)) for number, event in some]
        else:
            parts = [frame(event.data) for _, event in some]
        yield b"".join(parts) or sse.KEEP_ALIVE
    yield dialect.end


def may_read(principal: Principal, meta: Meta) -> bool:
    """A project's streams are the project's, as its files are."""
    return (meta.organization, meta.project) == (principal.organization, principal.project)
