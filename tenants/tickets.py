"""Tickets with which a page opens a WebSocket: good once, for one origin, for a short time.

Two doors issue them: the API to a program that holds a key, the portal to a person who is
logged in. Redis has the digest of a ticket's text, and whose it is; nobody gets a secret from
either.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from typing import NamedTuple

import msgspec

from tenants.authentication import Credentials
from tenants.errors import TooManyRequests

SUBPROTOCOL = "sluice.v1"
TTL_S = 60
LONGEST_S = 300
MOST_A_MINUTE = 600  # of one key, or of one person in one organization
_COUNTED_S = 120


class Ticket(msgspec.Struct, frozen=True, array_like=True):
    """Whose it is: a key's digest, or a member (``tenants.people``)."""

    lookup: str
    digest: bytes
    origin: str
    endpoints: list[str] | None

    @property
    def credentials(self) -> Credentials:
        return Credentials(self.lookup, self.digest)


class Issued(NamedTuple):
    text: str
    key: str  # in Redis, with ``content`` for ``ttl_s``
    content: bytes
    ttl_s: int

    def answer(self) -> bytes:
        """What the caller is told, as JSON."""
        told = {
            "object": "stream.ticket",
            "ticket": self.text,
            "expires_at": int(time.time()) + self.ttl_s,
            "subprotocols": [SUBPROTOCOL, f"ticket.{self.text}"],
        }
        return msgspec.json.encode(told)


def new_ticket(
    held: Credentials, origin: str, endpoints: list[str] | None, ttl_s: int = TTL_S
) -> Issued:
    """To be stored by the door, which has Redis in its own way."""
    text = secrets.token_urlsafe(32)
    content = msgspec.msgpack.encode(Ticket(held.lookup, held.digest, origin, endpoints))
    return Issued(text, key_of(text), content, ttl_s)


read_ticket = msgspec.msgpack.Decoder(Ticket).decode


def key_of(text: str) -> str:
    return f"ticket:{hashlib.sha256(text.encode()).hexdigest()}"


def counter_of(whose: str) -> tuple[str, int]:
    """The key that counts this minute's tickets, and how long it is to live (s)."""
    return f"tickets:{whose}:{int(time.time()) // 60}", _COUNTED_S


def check_count(issued: int) -> None:
    if issued > MOST_A_MINUTE:
        raise TooManyRequests(
            f"There are at most {MOST_A_MINUTE} tickets a minute for one key or person.",
            retry_after_s=60,
        )
