"""Requests that count or translate tokens: no engine works for them and nothing is billed.

They are held to the limits of requests all the same, their model's own included: a
gateway's CPU is what they take.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from api.gateway import Gateway
from api.http import Headers
from inference.holds import HoldNote, encode_note
from tenants.principal import Principal

# Counting is for what is too long, too. As many tokens as a body can hold, at a byte each.
MOST_COUNTED_TOKENS = 2**31


@dataclass(frozen=True)
class Counting:
    """A validated request: the model whose limits hold, and what is left to do."""

    model: str
    work: Callable[[], Awaitable[Any]]


class Prepare(Protocol):
    def __call__(self, gateway: Gateway, principal: Principal, raw: bytes) -> Counting: ...


async def counted(
    gateway: Gateway, principal: Principal, prepare: Prepare, path: str, request_id: str, raw: bytes
) -> tuple[bytes, Headers]:
    """The answer's body, and the headers of limits. Raises LimitExceeded."""
    counting = prepare(gateway, principal, raw)
    note = HoldNote(
        gateway.name,
        principal.organization,
        principal.project,
        principal.api_key,
        counting.model,
        path,
        time.time(),
    )
    hold = await gateway.admission.admit(
        principal,
        request_id,
        model=counting.model,
        expected_tokens=0,
        most_tokens=0,
        most_cost_micros=0,
        note=encode_note(note),
    )
    try:
        answer = await counting.work()
    finally:
        await gateway.admission.release(request_id)
    return msgspec.json.encode(answer), hold.headers
