"""``/v1/stream``: requests multiplexed on one socket.

Client to server, JSON text frames::

    {"type": "request", "id": "a", "endpoint": "/v1/chat/completions", "body": {…},
     "headers": {"x-sluice-cache": "no-cache"}}       headers: ours, as by HTTP; may be absent
    {"type": "resume", "id": "a", "request_id": "…", "after": 7}   a resumable stream
    {"type": "cancel", "id": "a"}

Server to client, each with the client's ``id``::

    {"type": "chunk", "id": "a", "data": {…}}      body.stream is true: OpenAI chunks; those of
                                                   resumable streams have their "event" number
    {"type": "response", "id": "a", "data": {…}}   otherwise: the whole object
    {"type": "error", "id": "a", "error": {…}}     OpenAI's error object
    {"type": "done", "id": "a", "request_id": "…"} always the last of a request; it has
                                                   "headers" if it ran: limits, cache, model
    {"type": "goodbye", "running": {"a": "…"}}     the gateway stops; what can be resumed

The key comes in the handshake's Authorization header, or a ticket that stands for it as a
subprotocol (``tickets``). It is checked again for every request.

Plain ASGI and not Channels, whose consumers cost an idle socket two tasks and a queue of the
channel layer, which tokens never ride. A reader that is slow makes ``send`` wait, and with it
each of its own streams; what the engine makes meanwhile gathers in their sequences.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from dataclasses import replace
from typing import Annotated, Any, Literal

import msgspec
from django.conf import settings
from msgspec import Meta

from api.asgi import ENDPOINTS, check_scope
from api.controls import Controls, controls_of
from api.dialect import OPENAI
from api.errors import INTERNAL, ApiError, api_error, malformed
from api.gateway import current_gateway
from api.http import Headers, Receive, Scope, Send, authorization_of, client_address_of
from api.kept import answers, claims
from api.kept.producer import Numbered, Producer
from api.run import Run
from api.stream import tickets
from api.stream.sockets import RESTART_CLOSE, UNAUTHORIZED_CLOSE
from api.streams.handler import access_log
from inference.errors import InferenceError, InvalidRequest, NoReplica, Overloaded
from inference.stream_log import MOST_EVENTS, LogUnavailable
from tenants.authentication import Credentials
from tenants.errors import AccessDenied, InvalidApiKey, TenantError
from tenants.principal import Principal

log = logging.getLogger(__name__)

SUBPROTOCOL = "sluice.v1"
TICKET = "ticket."
MOST_HEADERS = 16
# Frames of a client: so many at once, and so many a second in the long run.
MESSAGES_AT_ONCE = 128
MESSAGES_PER_S = 64
POLICY_CLOSE = 1008
_HeaderName = Annotated[str, Meta(pattern=r"^[Xx]-[Ss][Ll][Uu][Ii][Cc][Ee]-[A-Za-z-]{1,40}$")]
_HeaderValue = Annotated[str, Meta(max_length=256)]
_Id = Annotated[str, Meta(min_length=1, max_length=64)]
# Of an answer's headers those that are not about HTTP.
_TOLD = (b"x-sluice-", b"age", b"x-ratelimit-")
NONE_TOLD: Headers = []


class RequestFrame(msgspec.Struct, frozen=True, tag="request", tag_field="type"):
    id: _Id
    endpoint: Literal["/v1/chat/completions", "/v1/completions", "/v1/embeddings"]
    body: msgspec.Raw
    # Over those of the handshake, which hold for every request of the socket.
    headers: Annotated[dict[_HeaderName, _HeaderValue], Meta(max_length=MOST_HEADERS)] = {}


class ResumeFrame(msgspec.Struct, frozen=True, tag="resume", tag_field="type"):
    id: _Id
    request_id: Annotated[str, Meta(max_length=64)]
    after: Annotated[int, Meta(ge=0, le=MOST_EVENTS)] = 0


class CancelFrame(msgspec.Struct, frozen=True, tag="cancel", tag_field="type"):
    id: _Id


_decode = msgspec.json.Decoder(RequestFrame | ResumeFrame | CancelFrame).decode


class _Running:
    """One request of a socket."""

    __slots__ = ("producer", "request_id", "task")

    def __init__(self, request_id: str):
        self.request_id = request_id
        self.task: asyncio.Task[None] | None = None
        self.producer: Producer | None = None  # if it can be resumed elsewhere


class StreamSocket:
    """One socket; each request is a task of its own."""

    __slots__ = (
        "_allowance", "_counted_at", "_endpoints", "_held", "_is_closed", "_is_leaving",
        "_running", "_send", "_standing", "address", "idle_since",
    )  # fmt: skip

    def __init__(self, scope: Scope, send: Send):
        self._send = send
        self._running: dict[str, _Running] = {}
        self._held: Credentials | None = None
        self._endpoints: list[str] | None = None  # those of its ticket
        self._is_closed = self._is_leaving = False
        self._allowance, self._counted_at = float(MESSAGES_AT_ONCE), time.monotonic()
        # Of the handshake's headers what holds for every request.
        named = [each for each in scope["headers"] if each[0].startswith(b"x-sluice-")]
        self._standing = dict(named)
        self.address = client_address_of(scope)
        self.idle_since: float | None = time.monotonic()

    # --- The socket's life ------------------------------------------------------------------

    async def serve(self, scope: Scope, receive: Receive) -> None:
        await receive()  # websocket.connect
        offered = scope.get("subprotocols") or []
        chosen = SUBPROTOCOL if SUBPROTOCOL in offered else None
        try:
            principal = await self._enter(scope, offered)
        except (TenantError, InferenceError) as error:
            # Accept first: a refused handshake would reach the client as a bare 403.
            await self._send({"type": "websocket.accept", "subprotocol": chosen})
            await self._send_error("", api_error(error))
            is_key = error.status in (401, 403)
            await self._close(UNAUTHORIZED_CLOSE if is_key else 1013, "")
            return
        sockets, held = current_gateway().sockets, self._held
        assert held is not None
        try:
            await self._send({"type": "websocket.accept", "subprotocol": chosen})
            del principal, offered, scope  # an idle socket needs none of them
            await self._read(receive)
        except OSError:
            log.debug("socket.gone")
        finally:
            self._is_closed = True
            sockets.remove(held, self)
            await self._stop_all()

    async def _enter(self, scope: Scope, offered: list[str]) -> Principal:
        """Who it is. Raises the errors of keys and tickets, and TooManyRequests."""
        gateway = current_gateway()
        ticket = next((each for each in offered if each.startswith(TICKET)), None)
        header = authorization_of(scope)
        if ticket is not None and header is None:
            origins = [value for name, value in scope["headers"] if name == b"origin"]
            origin = origins[0].decode("latin-1") if len(origins) == 1 else None
            redeemed = await tickets.redeem(gateway, ticket.removeprefix(TICKET), origin)
            self._held, self._endpoints = redeemed.credentials, redeemed.endpoints
        else:
            self._held = gateway.authenticator.credentials_of(header)
        principal = await self._authenticate()
        if gateway.sockets.are_leaving:
            raise NoReplica("This server is about to restart. Connect again.")
        gateway.sockets.add(self._held, principal, self)
        return principal

    async def _authenticate(self) -> Principal:
        assert self._held is not None
        authenticator = current_gateway().authenticator
        return await authenticator.authenticate_again(self._held, self.address)

    async def _read(self, receive: Receive) -> None:
        while (message := await receive())["type"] != "websocket.disconnect":
            if self._is_closed:
                continue
            if not self._may_send():
                error = Overloaded(f"A socket sends at most {MESSAGES_PER_S} frames a second.")
                error.status, error.code = 429, "too_many_requests"
                await self._send_error("", api_error(error))
                await self._close(POLICY_CLOSE, "too many frames")
                continue
            await self._take(message.get("text"))

    def _may_send(self) -> bool:
        now = time.monotonic()
        earned = (now - self._counted_at) * MESSAGES_PER_S
        self._allowance = min(MESSAGES_AT_ONCE, self._allowance + earned) - 1
        self._counted_at = now
        return self._allowance >= 0

    async def _stop_all(self) -> None:
        tasks = [each.task for each in self._running.values() if each.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _close(self, code: int, reason: str) -> None:
        self._is_closed = True
        try:
            await self._send({"type": "websocket.close", "code": code, "reason": reason})
        except (OSError, RuntimeError):  # it is gone, or was closed already
            log.debug("socket.closed_before")

    def end(self, code: int, reason: str) -> None:
        """Close it from outside; ``serve`` then hears that it is closed."""
        if not self._is_closed:
            self._is_closed = True
            _soon(self._close(code, reason))

    def say_goodbye(self) -> None:
        """Close it when nothing runs on it that would be lost."""
        if self._is_closed or self._is_leaving:
            return
        self._is_leaving = True
        _soon(self._leave())

    async def _leave(self) -> None:
        resumable = {
            client_id: running.request_id
            for client_id, running in self._running.items()
            if running.producer is not None
        }
        content = {"type": "goodbye", "running": resumable}
        try:
            await self._send_text(msgspec.json.encode(content).decode())
        except OSError:
            return
        self._leave_if_nothing_is_lost()

    def _leave_if_nothing_is_lost(self) -> None:
        if all(each.producer is not None for each in self._running.values()):
            self.end(RESTART_CLOSE, "this server restarts; connect again and resume")

    # --- Frames -----------------------------------------------------------------------------

    async def _take(self, text: str | None) -> None:
        try:
            if text is None:
                raise InvalidRequest("Send text frames with JSON.")
            if len(text) > settings.MAX_BODY_BYTES:
                raise InvalidRequest(f"A frame has at most {settings.MAX_BODY_BYTES} bytes.")
            frame = _decode(text)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            await self._send_error("", api_error(malformed(error)))
        except InferenceError as error:
            await self._send_error("", api_error(error))
        else:
            if isinstance(frame, CancelFrame):
                await self._cancel(frame.id)
            else:
                await self._begin(frame)

    async def _cancel(self, client_id: str) -> None:
        """Stop a request and say that it is done; one that has ended already is ignored."""
        running = self._running.get(client_id)
        if running is None or running.task is None:
            return
        if running.producer is not None:
            running.producer.cancel()
        running.task.cancel()
        await asyncio.wait([running.task])
        if running.task.cancelled():
            await self._send_done(client_id, running.request_id)

    async def _begin(self, frame: RequestFrame | ResumeFrame) -> None:
        if frame.id in self._running:
            error: InferenceError = InvalidRequest(
                "A request with this id is running on this socket.", param="id"
            )
        elif len(self._running) >= settings.WEBSOCKET_MAX_REQUESTS:
            error = Overloaded(
                f"A socket carries at most {settings.WEBSOCKET_MAX_REQUESTS} requests at once."
            )
            error.status, error.code = 429, "too_many_requests"
        else:
            running = _Running(
                frame.request_id if isinstance(frame, ResumeFrame) else secrets.token_hex(12)
            )
            self._running[frame.id], self.idle_since = running, None
            running.task = asyncio.create_task(self._serve(frame, running))
            running.task.add_done_callback(lambda _: self._ended(frame.id))
            return
        await self._send_error(frame.id, api_error(error))

    def _ended(self, client_id: str) -> None:
        self._running.pop(client_id, None)
        if not self._running:
            self.idle_since = time.monotonic()
        if self._is_leaving:
            self._leave_if_nothing_is_lost()

    async def _serve(self, frame: RequestFrame | ResumeFrame, running: _Running) -> None:
        gateway = current_gateway()
        gateway.requests += 1
        failure: ApiError | None = None
        told: Headers = []
        try:
            principal = await self._authenticate()
            if gateway.is_draining or gateway.sockets.are_leaving:
                raise NoReplica("This server is about to restart. Connect again.")
            if gateway.requests > settings.MAX_IN_FLIGHT:
                raise NoReplica("This server is at its capacity. Try again shortly.")
            if isinstance(frame, ResumeFrame):
                await self._resume(principal, frame)
            else:
                told = await self._run(principal, frame, running)
        except InvalidApiKey as error:
            await self._send_error(frame.id, api_error(error))
            self.end(UNAUTHORIZED_CLOSE, "")
            return
        except (TenantError, InferenceError) as error:
            failure = api_error(error)
        except OSError:  # the client went away; the socket hears of it by itself
            return
        except Exception:
            log.exception("request.failed", extra={"request_id": running.request_id})
            failure = INTERNAL
        finally:
            gateway.requests -= 1
        if failure is not None:
            await self._send_error(frame.id, failure)
        await self._send_done(frame.id, running.request_id, told)

    # --- Requests ---------------------------------------------------------------------------

    def _check(self, principal: Principal, endpoint: str) -> None:
        check_scope(principal, endpoint)
        if self._endpoints is not None and endpoint not in self._endpoints:
            raise AccessDenied(f"The ticket of this socket is not for {endpoint}.")

    async def _run(self, principal: Principal, frame: RequestFrame, running: _Running) -> Headers:
        """Answer a request; the headers of which the client is told."""
        self._check(principal, frame.endpoint)
        controls = self._controls_of(frame)

        async def begin(controls: Controls = controls) -> Any:
            return await ENDPOINTS[frame.endpoint](
                current_gateway(),
                principal,
                bytes(frame.body),
                running.request_id,
                time.monotonic(),
                controls,
            )

        if controls.is_resumable:
            inner = replace(controls, is_resumable=False)
            producer = await self._producer(principal, frame, running, lambda: begin(inner))
            if producer is not None:
                return await self._follow(producer, frame.id)
        call = await begin()
        async with Run(current_gateway(), call.plan) as run:
            if call.is_stream:
                async for chunks in call.chunks(run):
                    for chunk in chunks:
                        await self._send_data("chunk", frame.id, chunk)
            else:
                content = await call.whole(run)
                await run.settle()
                await self._send_data("response", frame.id, content)
            return list(run.headers)

    async def _producer(
        self, principal: Principal, frame: RequestFrame, running: _Running, begin: Any
    ) -> Producer | None:
        """None if there is no room for its log: then it runs as any other."""
        gateway = current_gateway()
        try:
            meta = claims.meta_of(principal, frame.endpoint)
            writer = await gateway.logs.begin(running.request_id, meta)
        except LogUnavailable:
            return None
        if writer is None:
            return None
        running.producer = Producer(gateway, writer, begin)
        return running.producer

    async def _follow(self, producer: Producer, client_id: str) -> Headers:
        answers.reading_while_this_runs(producer)
        await producer.begun()
        if producer.is_stream:
            async for events in producer.read():
                await self._send_events(client_id, events)
        else:
            await producer.ended()
            await self._send_kept(client_id, "response", producer.events[-1].data, None)
        return [*producer.headers, answers.RESUMABLE]

    async def _resume(self, principal: Principal, frame: ResumeFrame) -> None:
        gateway = current_gateway()
        await access_log(gateway, principal, frame.request_id, self._check)
        async for events in answers.resume(gateway, frame.request_id, frame.after, OPENAI):
            await self._send_events(frame.id, events)

    def _controls_of(self, frame: RequestFrame) -> Controls:
        """What the handshake asked for, and over it what this request does."""
        own = {name.lower().encode(): value.encode() for name, value in frame.headers.items()}
        return controls_of(list((self._standing | own).items()))

    # --- Sending ----------------------------------------------------------------------------

    async def _send_text(self, text: str) -> None:
        if self._is_closed:  # nothing may follow the closing frame
            return
        await self._send({"type": "websocket.send", "text": text})

    async def _send_events(self, client_id: str, events: Numbered) -> None:
        for number, event in events:
            await self._send_kept(client_id, "chunk", event.data, number)

    async def _send_kept(self, client_id: str, kind: str, data: bytes, number: int | None) -> None:
        if data.startswith(b'{"error":'):
            head = b'{"type":"error","id":%b,' % msgspec.json.encode(client_id)
            await self._send_text((head + data[1:]).decode())
        else:
            await self._send_data(kind, client_id, data, number)

    async def _send_done(self, client_id: str, request_id: str, told: Headers = NONE_TOLD) -> None:
        done: dict[str, Any] = {"type": "done", "id": client_id, "request_id": request_id}
        headers = {n.decode(): v.decode() for n, v in told if n.startswith(_TOLD)}
        if headers:
            done["headers"] = headers
        await self._send_text(msgspec.json.encode(done).decode())

    async def _send_data(
        self, kind: str, client_id: str, data: bytes, number: int | None = None
    ) -> None:
        at = b"" if number is None else b'"event":%d,' % number
        head = b'{"type":"%b","id":%b,%b"data":' % (
            kind.encode(),
            msgspec.json.encode(client_id),
            at,
        )
        await self._send_text((head + data + b"}").decode())

    async def _send_error(self, client_id: str, error: ApiError) -> None:
        head = b'{"type":"error","id":%b,' % msgspec.json.encode(client_id)
        await self._send_text((head + error.body()[1:]).decode())


_tasks: set[asyncio.Task[None]] = set()


def _soon(work: Any) -> None:
    """What nobody waits for; kept from the collector until it has ended."""
    task = asyncio.get_running_loop().create_task(work)
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)


async def stream_socket(scope: Scope, receive: Receive, send: Send) -> None:
    """The ASGI application of ``/v1/stream``."""
    await StreamSocket(scope, send).serve(scope, receive)
