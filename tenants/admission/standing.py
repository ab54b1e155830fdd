"""How much of each limit is used, read from the admission state without changing it.

For people who look: what a request meets is decided by ``admit.lua`` alone, whose arithmetic
``used_of`` repeats.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import redis
from django.conf import settings

from tenants.admission.kinds import (
    BUCKETS,
    CONCURRENT,
    KINDS,
    MONTHLY_BUDGET,
    MONTHLY_TOKENS,
    PREPAID_CREDIT,
)
from tenants.admission.limits import months_at

# As state.lua describes it.
_STATE = struct.Struct("<17d")


@dataclass(frozen=True)
class State:
    """One subject's state at a moment of Redis's clock; without ``raw`` nothing counted yet."""

    raw: bytes | None
    now_ms: float

    def used_of(self, limits: Sequence[int]) -> tuple[int | None, ...]:
        """What is used of each of ``KINDS``: rounded up, held amounts included.

        None where there is no limit (-1), and where only the ledger knows: a sum that admission
        was not asked for yet.
        """
        is_there = self.raw is not None and len(self.raw) == _STATE.size
        fields = _STATE.unpack(self.raw or b"") if is_there else _EMPTY
        return tuple(
            None if limit < 0 else self._used(place, limit, fields)
            for place, limit in enumerate(limits)
        )

    @property
    def running(self) -> int:
        """Requests in flight; nobody counts those of a subject without any limit."""
        if self.raw is None or len(self.raw) != _STATE.size:
            return 0
        return _running(_STATE.unpack(self.raw), self.now_ms)

    def _used(self, place: int, limit: int, fields: tuple[float, ...]) -> int | None:
        if place in BUCKETS:
            elapsed = max(0.0, self.now_ms - fields[0])
            backlog = max(0.0, fields[1 + place] - elapsed)
            # A hair above a whole number is that number.
            return math.ceil(backlog * limit / KINDS[place].period_ms - 0.001)
        if place == CONCURRENT:
            return _running(fields, self.now_ms)
        if place == PREPAID_CREDIT:
            return _sum(fields[14], fields[15])
        month = months_at(self.now_ms / 1000).number
        if fields[9] != month:  # a new month has used nothing, an unknown one is unknown
            return 0 if 0 <= fields[9] < month and fields[10] >= 0 else None
        at = {MONTHLY_TOKENS: 10, MONTHLY_BUDGET: 12}[place]
        return _sum(fields[at], fields[at + 1])


# As state_or_empty of state.lua.
_EMPTY = (*(0.0,) * 10, -1.0, 0.0, -1.0, 0.0, -1.0, 0.0, 0.0)


def _running(fields: tuple[float, ...], now_ms: float) -> int:
    slot, running, earlier = fields[6:9]
    slots_since = now_ms // int(settings.HOLD_EXPIRY_S * 1000) - slot
    if slots_since >= 2:
        return 0  # older than any request can be
    return int(running if slots_since == 1 else running + earlier)


def _sum(used: float, held: float) -> int | None:
    return None if used < 0 else int(used + held)


def read_states(keys: Sequence[str]) -> list[State]:
    """The states under these keys of Redis, at once. Raises redis.RedisError."""
    client = redis.Redis.from_url(
        settings.REDIS_URL,
        socket_timeout=settings.REDIS_TIMEOUT_S,
        socket_connect_timeout=settings.REDIS_TIMEOUT_S,
    )
    with client, client.pipeline(transaction=False) as pipe:
        pipe.time()
        pipe.mget(keys)
        (seconds, micros), raws = pipe.execute()
    now_ms = seconds * 1000 + micros / 1000
    return [State(raw, now_ms) for raw in raws]
