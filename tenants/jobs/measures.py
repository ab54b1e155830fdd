"""How the jobs fare, for metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from django.db import connection

# Of the open states only: their rows are few, and an index holds them.
_COUNTS = """
SELECT kind, state, count(*) FROM tenants_job WHERE state IN ('queued', 'running') GROUP BY 1, 2
"""
_OLDEST = """
SELECT coalesce(extract(epoch FROM statement_timestamp() - min(run_after)), 0)
FROM tenants_job WHERE state = 'queued' AND run_after <= statement_timestamp()
"""


@dataclass(frozen=True)
class Measures:
    counts: Mapping[tuple[str, str], int]  # (kind, state): how many, of open ones
    oldest_waiting_s: float  # how long the first job in line has been due; 0 where none is


@dataclass(frozen=True)
class Endings:
    """How many jobs ended in a period, and how many of them failed."""

    finished: int
    failed: int


_ENDED = """
SELECT count(*), count(*) FILTER (WHERE state = 'failed')
FROM tenants_job WHERE finished_at >= %s AND finished_at < %s
"""


def count_endings(start: datetime, end: datetime) -> Endings:
    """Half-open; jobs are forgotten 30 days after their end."""
    with connection.cursor() as cursor:
        cursor.execute(_ENDED, [start, end])
        return Endings(*cursor.fetchone())


def measure() -> Measures:
    with connection.cursor() as cursor:
        cursor.execute(_COUNTS)
        counts = {(kind, state): count for kind, state, count in cursor.fetchall()}
        cursor.execute(_OLDEST)
        (oldest,) = cursor.fetchone()
    return Measures(counts, max(0.0, float(oldest)))
