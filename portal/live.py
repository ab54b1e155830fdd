"""The panel of requests as they end: what a page shows at first, and what its socket adds.

Both render the same template, so that a row looks alike however it came.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import redis
from django.conf import settings
from django.template.loader import render_to_string

from billing import live
from billing.models import UsageEvent
from tenants.admission.standing import State
from tenants.limit_use import has_limits
from tenants.models import Organization

ROWS = "portal/_live_rows.html"


@dataclass(frozen=True)
class Panel:
    """``sequence`` is that of the rows; None while Redis is away, and nothing is live."""

    rows: Sequence[UsageEvent]
    sequence: int | None
    running: int | None  # None: nobody counts them


def panel_of(organization: Organization) -> Panel:
    """As it is now. The organization is watched from here on, before the rows are read: what is
    recorded after them moves the sequence. Needs the organization's ``plan``."""
    sequence: int | None = None
    running = None
    with suppress(redis.RedisError):  # told by the panel: figures come with a reload
        sequence, running = _watch(organization)
    return Panel(live.newest_requests(organization), sequence, running)


def _watch(organization: Organization) -> tuple[int, int | None]:
    client = redis.Redis.from_url(
        settings.REDIS_URL,
        socket_timeout=settings.REDIS_TIMEOUT_S,
        socket_connect_timeout=settings.REDIS_TIMEOUT_S,
    )
    with client, client.pipeline(transaction=False) as pipe:
        ask(pipe, organization.pk)
        _, *answers = pipe.execute()
    return read(answers, has_limits(organization))


def ask(pipe: Any, organization: int) -> None:
    """Mark as watched, and ask for what ``read`` takes; ``pipe`` is any client's pipeline."""
    pipe.set(live.watch_key(organization), 1, ex=live.WATCHED_S, get=True)
    pipe.get(live.sequence_key(organization))
    pipe.get(f"limit:o{organization}")
    pipe.time()


def read(answers: Sequence[Any], counts_running: bool) -> tuple[int, int | None]:
    """The sequence and the requests in flight."""
    sequence, raw, (seconds, micros) = answers
    state = State(raw, seconds * 1000 + micros / 1000)
    return int(sequence or 0), state.running if counts_running else None


def render_rows(organization: Organization, rows: Sequence[UsageEvent]) -> str:
    return render_to_string(ROWS, {"organization": organization, "rows": rows}) if rows else ""
