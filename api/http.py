"""The little of HTTP that the token path needs, on raw ASGI."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from types import CoroutineType
from typing import Any, Protocol

from django.conf import settings

from api.errors import MalformedBody, MethodNotAllowed
from inference.errors import InvalidRequest, RequestTimedOut
from tenants import addresses
from tenants.errors import InvalidApiKey

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

# Of ``scope["extensions"]``: what the web process's own server can do beyond ASGI.
WIRE = "sluice.wire"


class Wire(Protocol):
    """The connection of one request, without a task or a timer for each of its events."""

    def when_gone(self, tell: Callable[[], object]) -> None:
        """Call ``tell`` once when the client goes away before its answer has ended."""

    def write_now(self, part: bytes) -> bool:
        """Write a part of a stream that has begun. False, and nothing is written, if the
        client is slower than the stream or gone: then it must be sent and waited for."""

    def has_written(self) -> bool:
        """Whether any part was written since this was last asked."""


def wire_of(scope: Scope) -> Wire | None:
    """None where another server, or a test, calls the application."""
    wire: Wire | None = (scope.get("extensions") or {}).get(WIRE)
    return wire


JSON = (b"content-type", b"application/json")
EVENT_STREAM = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    # nginx would otherwise gather tokens into pages.
    (b"x-accel-buffering", b"no"),
]


def client_address_of(scope: Scope) -> str | None:
    """Of an HTTP or WebSocket scope; None for a socket without addresses."""
    client = scope.get("client")
    if client is None:
        return None
    proxies = addresses.parse_proxies(tuple(settings.TRUSTED_PROXIES))
    if not proxies or not addresses.is_trusted(client[0], proxies):
        return str(client[0])
    # Several headers are one list, in their order.
    forwarded = b",".join(value for name, value in scope["headers"] if name == b"x-forwarded-for")
    return addresses.client_address(client[0], forwarded.decode("latin-1"), proxies)


def authorization_of(scope: Scope) -> bytes | None:
    """The Authorization header of an HTTP or WebSocket scope.

    Two are an error: whatever stands before us may have judged by the other one.
    """
    values = [value for name, value in scope["headers"] if name == b"authorization"]
    if len(values) > 1:
        raise InvalidApiKey("Send one Authorization header.")
    return bytes(values[0]) if values else None


class BodyTooLarge(InvalidRequest):
    status = 413
    code = "request_too_large"


class UnsupportedContentType(InvalidRequest):
    status = 415
    code = "unsupported_content_type"


@dataclass
class Request:
    """One HTTP request; ``request_id`` is minted here, whatever the client sent."""

    scope: Scope
    receive: Receive
    started_at: float = field(default_factory=time.monotonic)
    request_id: str = field(default_factory=lambda: secrets.token_hex(12))
    organization: str = ""  # public id, once known; for the access line
    is_gone: bool = False  # the client went away; what runs for it is cancelled

    def header(self, name: bytes) -> bytes | None:
        for key, value in self.scope["headers"]:
            if key == name:
                return bytes(value)
        return None

    @property
    def address(self) -> str | None:
        """The client's address, as far as trusted proxies tell it."""
        return client_address_of(self.scope)

    async def json_body(self) -> bytes:
        """The whole body, bounded in size and time."""
        content_type = (self.header(b"content-type") or b"").partition(b";")[0].strip().lower()
        if content_type != b"application/json":
            raise UnsupportedContentType(
                "Send the request's body as JSON with the header 'Content-Type: application/json'."
            )
        declared = self.header(b"content-length")
        if declared is not None and declared.isdigit() and int(declared) > settings.MAX_BODY_BYTES:
            raise _too_large()
        message = await self.next_part()
        body = message.get("body", b"")
        if message.get("more_body"):
            body = await self._rest(body)
        if not body:
            raise MalformedBody("The request has no body. Send a JSON object.")
        return bytes(body)

    async def _rest(self, first: bytes) -> bytes:
        parts, size = [first], len(first)
        deadline = time.monotonic() + settings.BODY_TIMEOUT_S
        while True:
            message = await self.next_part(deadline - time.monotonic())
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > settings.MAX_BODY_BYTES:
                raise _too_large()
            if not message.get("more_body"):
                return b"".join(parts)

    async def next_part(self, timeout_s: float | None = None) -> dict[str, Any]:
        """The next message of the body; raises ClientDisconnected."""
        message = _received_already(self.receive) or await self._received_in_time(timeout_s)
        if message["type"] == "http.disconnect":
            raise ClientDisconnected
        return message

    async def _received_in_time(self, timeout_s: float | None) -> dict[str, Any]:
        try:
            async with asyncio.timeout(settings.BODY_TIMEOUT_S if timeout_s is None else timeout_s):
                return await self.receive()
        except TimeoutError:
            raise slow_body() from None


@dataclass
class Response:
    """``stream`` yields body parts; without it ``body`` is all."""

    status: int
    headers: Headers
    body: bytes = b""
    stream: AsyncIterator[bytes] | None = None


class ClientDisconnected(Exception):
    """The client went away before it had sent its request."""


def _received_already(receive: Receive) -> dict[str, Any] | None:
    """The next message if it is there; None if it must be waited for.

    Most bodies come with their head, and a timeout costs more than reading one.
    """
    receiving = receive()
    if not isinstance(receiving, CoroutineType):
        return None
    try:
        receiving.send(None)
    except StopIteration as finished:
        message: dict[str, Any] = finished.value
        return message
    receiving.close()  # it had only begun to wait
    return None


def _too_large() -> BodyTooLarge:
    return BodyTooLarge(f"The request's body is larger than {settings.MAX_BODY_BYTES} bytes.")


def slow_body() -> RequestTimedOut:
    error = RequestTimedOut("The request's body did not arrive in time.")
    error.status, error.kind = 408, "invalid_request_error"
    return error


def json_response(body: bytes, headers: Headers = []) -> Response:  # noqa: B006 - never changed
    return Response(200, [JSON, *headers], body)


def check_method(request: Request, method: str) -> None:
    if request.scope["method"] != method:
        raise MethodNotAllowed(f"Use {method} for {request.scope['path']}.")


async def send_head(request: Request, status: int, headers: Headers, send: Send) -> None:
    elapsed_ms = int((time.monotonic() - request.started_at) * 1000)
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [
                *headers,
                (b"x-request-id", request.request_id.encode()),
                (b"openai-processing-ms", b"%d" % elapsed_ms),
            ],
        }
    )


async def send_whole(request: Request, response: Response, send: Send) -> None:
    headers = [*response.headers, (b"content-length", b"%d" % len(response.body))]
    await send_head(request, response.status, headers, send)
    body = b"" if request.scope["method"] == "HEAD" else response.body
    await send({"type": "http.response.body", "body": body})
