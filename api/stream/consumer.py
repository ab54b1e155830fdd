"""``/v1/stream`` over Channels: requests multiplexed on one socket.

Client to server, JSON text frames::

    {"type": "request", "id": "a", "endpoint": "/v1/chat/completions", "body": {…},
     "headers": {"x-sluice-cache": "no-cache"}}       headers: ours, as by HTTP; may be absent
    {"type": "cancel", "id": "a"}

Server to client, each with the client's ``id``::

    {"type": "chunk", "id": "a", "data": {…}}      body.stream is true: OpenAI chunks
    {"type": "response", "id": "a", "data": {…}}   otherwise: the whole object
    {"type": "error", "id": "a", "error": {…}}     OpenAI's error object
    {"type": "done", "id": "a", "request_id": "…"} always the last of a request; it has
                                                   "headers" if it ran: limits, cache, model

The key comes in the handshake's Authorization header and is checked again for
every request, so that a revoked key stops within a second on open sockets too.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from typing import Annotated, Any, Literal

import msgspec
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings
from msgspec import Meta

from api.asgi import ENDPOINTS, check_scope
from api.controls import Controls, controls_of
from api.errors import INTERNAL, ApiError, api_error, malformed
from api.gateway import current_gateway
from api.http import Headers, authorization_of, client_address_of
from api.run import Run
from inference.errors import InferenceError, InvalidRequest, NoReplica, Overloaded
from tenants.errors import InvalidApiKey, TenantError
from tenants.principal import Principal

log = logging.getLogger(__name__)

UNAUTHORIZED_CLOSE = 4401  # 4000 to 4999 are the application's own (RFC 6455, 7.4.2)


MOST_HEADERS = 16
_HeaderName = Annotated[str, Meta(pattern=r"^[Xx]-[Ss][Ll][Uu][Ii][Cc][Ee]-[A-Za-z-]{1,40}$")]
_HeaderValue = Annotated[str, Meta(max_length=256)]
# Of an answer's headers those that are not about HTTP.
_TOLD = (b"x-sluice-", b"age", b"x-ratelimit-")
NONE_TOLD: Headers = []


class RequestFrame(msgspec.Struct, frozen=True, tag="request", tag_field="type"):
    id: Annotated[str, Meta(min_length=1, max_length=64)]
    endpoint: Literal["/v1/chat/completions", "/v1/completions", "/v1/embeddings"]
    body: msgspec.Raw
    # Over those of the handshake, which hold for every request of the socket.
    headers: Annotated[dict[_HeaderName, _HeaderValue], Meta(max_length=MOST_HEADERS)] = {}


class CancelFrame(msgspec.Struct, frozen=True, tag="cancel", tag_field="type"):
    id: Annotated[str, Meta(min_length=1, max_length=64)]


_decode = msgspec.json.Decoder(RequestFrame | CancelFrame).decode


class StreamConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]
    """One socket; each request is a task of its own."""

    async def connect(self) -> None:
        self._running: dict[str, asyncio.Task[None]] = {}
        try:
            self._authorization = authorization_of(self.scope)
            await self._authenticate()
        except TenantError as error:
            # Accept first: a refused handshake would reach the client as a bare 403.
            await self.accept()
            await self._send_error("", api_error(error))
            await self.close(UNAUTHORIZED_CLOSE)
            return
        await self.accept()

    async def _authenticate(self) -> Principal:
        return await current_gateway().authenticator.authenticate(
            self._authorization, client_address_of(self.scope)
        )

    async def disconnect(self, code: int) -> None:
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        try:
            if text_data is None:
                raise InvalidRequest("Send text frames with JSON.")
            if len(text_data) > settings.MAX_BODY_BYTES:
                raise InvalidRequest(f"A frame has at most {settings.MAX_BODY_BYTES} bytes.")
            frame = _decode(text_data)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            await self._send_error("", api_error(malformed(error)))
            return
        except InferenceError as error:
            await self._send_error("", api_error(error))
            return
        if isinstance(frame, CancelFrame):
            await self._cancel(frame.id)
            return
        await self._begin(frame)

    async def _cancel(self, client_id: str) -> None:
        """Stop a request and say that it is done; one that has ended already is ignored."""
        task = self._running.get(client_id)
        if task is None:
            return
        task.cancel()
        await asyncio.wait([task])
        if task.cancelled():
            await self._send_done(client_id, task.get_name())

    async def _begin(self, frame: RequestFrame) -> None:
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
            request_id = secrets.token_hex(12)
            task = asyncio.create_task(self._serve(frame, request_id), name=request_id)
            self._running[frame.id] = task
            task.add_done_callback(lambda _: self._running.pop(frame.id, None))
            return
        await self._send_error(frame.id, api_error(error))

    async def _serve(self, frame: RequestFrame, request_id: str) -> None:
        gateway, started_at = current_gateway(), time.monotonic()
        gateway.requests += 1
        failure: ApiError | None = None
        told: Headers = []
        try:
            principal = await self._authenticate()
            check_scope(principal, frame.endpoint)
            if gateway.is_draining or gateway.requests > settings.MAX_IN_FLIGHT:
                raise NoReplica("This server is at its capacity. Try again shortly.")
            prepare = ENDPOINTS[frame.endpoint]
            controls = self._controls_of(frame)
            call: Any = await prepare(
                gateway, principal, bytes(frame.body), request_id, started_at, controls
            )
            async with Run(gateway, call.plan) as run:
                if call.is_stream:
                    async for chunks in call.chunks(run):
                        for chunk in chunks:
                            await self._send_data("chunk", frame.id, chunk)
                else:
                    content = await call.whole(run)
                    await run.settle()
                    await self._send_data("response", frame.id, content)
                told = run.headers
        except InvalidApiKey as error:
            await self._send_error(frame.id, api_error(error))
            await self.close(UNAUTHORIZED_CLOSE)
            return
        except (TenantError, InferenceError) as error:
            failure = api_error(error)
        except Exception:
            log.exception("request.failed", extra={"request_id": request_id})
            failure = INTERNAL
        finally:
            gateway.requests -= 1
        if failure is not None:
            await self._send_error(frame.id, failure)
        await self._send_done(frame.id, request_id, told)

    def _controls_of(self, frame: RequestFrame) -> Controls:
        """What the handshake asked for, and over it what this request does."""
        own = {name.lower().encode(): value.encode() for name, value in frame.headers.items()}
        return controls_of(list((dict(self.scope["headers"]) | own).items()))

    async def _send_done(self, client_id: str, request_id: str, told: Headers = NONE_TOLD) -> None:
        done: dict[str, Any] = {"type": "done", "id": client_id, "request_id": request_id}
        headers = {n.decode(): v.decode() for n, v in told if n.startswith(_TOLD)}
        if headers:
            done["headers"] = headers
        await self.send(text_data=msgspec.json.encode(done).decode())

    async def _send_data(self, kind: str, client_id: str, data: bytes) -> None:
        head = b'{"type":"%b","id":%b,"data":' % (
            kind.encode(),
            msgspec.json.encode(client_id),
        )
        await self.send(text_data=(head + data + b"}").decode())

    async def _send_error(self, client_id: str, error: ApiError) -> None:
        head = b'{"type":"error","id":%b,' % msgspec.json.encode(client_id)
        await self.send(text_data=(head + error.body()[1:]).decode())
