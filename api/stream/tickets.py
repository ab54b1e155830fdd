"""``POST /v1/stream/tickets``: a browser's way onto the WebSocket, without the key.

A page cannot set the Authorization header of a WebSocket, and must not hold a key. Its
server asks for a ticket with the key and hands that over: good once, for a minute, for one
origin and for the endpoints that were named. The page offers it as a subprotocol, because
addresses end up in logs.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

import msgspec
from msgspec import Meta
from redis.exceptions import RedisError

from api.errors import decoded
from api.gateway import Gateway
from api.http import Request, Response, json_response
from inference.errors import InvalidRequest
from inference.stream_log import LogUnavailable
from tenants.authentication import Credentials
from tenants.errors import InvalidApiKey
from tenants.principal import Principal
from tenants.tickets import (
    LONGEST_S,
    TTL_S,
    Ticket,
    check_count,
    counter_of,
    key_of,
    new_ticket,
    read_ticket,
)

_UNAVAILABLE = (RedisError, OSError, TimeoutError)
ORIGIN = re.compile(
    r"https?://[a-z0-9.-]{1,253}(:[0-9]{1,5})?|https?://\[[0-9a-f:.]{2,45}\](:[0-9]{1,5})?"
)
_TICKET = re.compile(r"[A-Za-z0-9_-]{43}")

Endpoint = Literal["/v1/chat/completions", "/v1/completions", "/v1/embeddings"]


class TicketRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    origin: Annotated[str, Meta(min_length=8, max_length=300)]
    endpoints: Annotated[list[Endpoint], Meta(min_length=1, max_length=3)] | None = None
    expires_in: Annotated[int, Meta(ge=1, le=LONGEST_S)] = TTL_S


_decode_body = msgspec.json.Decoder(TicketRequest).decode


async def issue(
    gateway: Gateway, principal: Principal, request: Request, held: Credentials
) -> Response:
    raw = await request.json_body()
    body = decoded(_decode_body, raw)
    if not ORIGIN.fullmatch(body.origin):
        raise InvalidRequest(
            "An origin is as a browser sends it, such as https://app.example.com.", param="origin"
        )
    endpoints: list[str] | None = None if body.endpoints is None else [*body.endpoints]
    ticket = new_ticket(held, body.origin, endpoints, body.expires_in)
    try:
        await _count(gateway, principal)
        await gateway.link.call("SET", ticket.key, ticket.content, "EX", ticket.ttl_s)
    except _UNAVAILABLE as error:
        raise LogUnavailable("Tickets cannot be issued right now. Try again shortly.") from error
    return json_response(ticket.answer(), [(b"cache-control", b"no-store")])


async def _count(gateway: Gateway, principal: Principal) -> None:
    key, ttl_s = counter_of(str(principal.api_key))
    issued = await gateway.link.call("INCR", key)
    if issued == 1:
        await gateway.link.call("EXPIRE", key, ttl_s)
    check_count(issued)


async def redeem(gateway: Gateway, text: str, origin: str | None) -> Ticket:
    """The ticket, which is void from here on. Raises InvalidApiKey, LogUnavailable."""
    if not _TICKET.fullmatch(text):
        raise _no_ticket()
    try:
        content = await gateway.link.call("GETDEL", key_of(text))
    except _UNAVAILABLE as error:
        raise LogUnavailable("Tickets cannot be checked right now. Try again shortly.") from error
    if content is None:
        raise _no_ticket()
    ticket = read_ticket(content)
    if origin != ticket.origin:
        raise InvalidApiKey("This ticket is for another origin.")
    return ticket


def _no_ticket() -> InvalidApiKey:
    return InvalidApiKey("This ticket is unknown, used or expired.")
