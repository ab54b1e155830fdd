"""That an organization's requests ended, told to whoever looks at this moment.

A page that shows an organization's requests marks it as watched for some seconds. Whoever
records usage then counts the organization's ``sequence`` up and wakes its watchers through the
channel layer, at most four times a second. What nobody watches
costs the collector one key of an MGET, and the token path nothing at all.

The layer delivers at most once and carries no data: watchers read the sequence and the rows
themselves, each in its own organization's scope.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.db.models import F
from django.utils import timezone
from redis import Redis, RedisError

from billing.models import UsageEvent
from billing.selectors import recent_requests
from tenants.models import Organization

logger = logging.getLogger(__name__)

# A page asks anew every few seconds while it is open; the time to load one lies in between.
WATCHED_S = 20
# Longer than a page may sleep in a tab and still think that it has seen everything.
SEQUENCE_KEPT_S = 86_400
# Recording must not wait for watchers.
TELL_S = 1.0
EVERY_S = 0.25
SHOWN = 10
# What began earlier is found in the list of requests; bounds what each look at new ones reads.
LOOKED_BACK = timedelta(hours=1)


def watch_key(organization: int) -> str:
    return f"live.watched:{organization}"


def sequence_key(organization: int) -> str:
    return f"live.sequence:{organization}"


def group_of(organization: int) -> str:
    return f"live.{organization}"


class Watchers:
    """Tells of the batches of one run, an organization at most once each ``EVERY_S``."""

    def __init__(self, redis: Redis):
        self._redis = redis
        self._untold: set[int] = set()
        self._told_at = 0.0

    def tell(self, organizations: Iterable[int]) -> None:
        self._untold.update(organizations)
        if time.monotonic() - self._told_at >= EVERY_S:
            self.tell_rest()

    def tell_rest(self) -> None:
        tell_watchers(self._redis, self._untold)
        self._untold.clear()
        self._told_at = time.monotonic()


def tell_watchers(redis: Redis, organizations: Iterable[int]) -> int:
    """Call after the commit. Returns how many organizations were told; raises nothing of Redis."""
    asked = sorted(set(organizations))
    if not asked:
        return 0
    try:
        found: Any = redis.mget([watch_key(number) for number in asked])
        watched = [number for number, mark in zip(asked, found, strict=True) if mark]
        if watched:
            _count(redis, watched)
            async_to_sync(_wake)(watched)
    except (RedisError, OSError, TimeoutError) as error:
        # Watchers read the sequence every second; they are only a little late.
        logger.warning("live.not_told", extra={"error": repr(error)})
        return 0
    return len(watched)


def _count(redis: Redis, organizations: Sequence[int]) -> None:
    with redis.pipeline(transaction=False) as pipe:
        for number in organizations:
            pipe.incr(sequence_key(number))
            pipe.expire(sequence_key(number), SEQUENCE_KEPT_S)
        pipe.execute()


async def _wake(organizations: Sequence[int]) -> None:
    layer = get_channel_layer()
    async with asyncio.timeout(TELL_S):
        for number in organizations:
            await layer.group_send(group_of(number), {"type": "usage.recorded"})


def newest_requests(organization: Organization) -> list[UsageEvent]:
    """The last ``SHOWN`` requests to begin, newest first."""
    return list(recent_requests(organization)[:SHOWN])


def recorded_after(organization: Organization, seen: int) -> tuple[list[UsageEvent], int]:
    """Requests recorded after the row ``seen`` (a primary key), the newest first and ``SHOWN`` at
    most; and the row to look after next. Batches are in no order of time, so only rows tell."""
    began = timezone.now() - LOOKED_BACK
    # Not by the primary key's index: an organization that is quiet would read the whole table.
    by_row = (F("pk") + 0).desc()
    events = recent_requests(organization, began).filter(pk__gt=seen).order_by(by_row)
    rows = list(events[:SHOWN])
    newest = max((row.pk for row in rows), default=seen)
    return sorted(rows, key=lambda row: (row.started_at, row.pk), reverse=True), newest
