"""From a query to spans of time and back: alignment, pages. Pure.

Buckets begin at whole minutes, hours and days of UTC; the first and the last are cut
to the time asked for, so that what they hold is what they say.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

from api.management.usage.wire import BUCKETS, UsageQuery
from tenants.errors import InvalidInput

SECONDS = {"1m": 60, "1h": 3600, "1d": 86_400}
_PAGE = re.compile(r"page_([0-9]{1,12})")


@dataclass(frozen=True)
class Span:
    """Unix seconds, ``start <= moment < end``, in buckets of ``width_s``."""

    start: int
    end: int
    width_s: int
    next_page: str | None

    def buckets(self) -> list[tuple[int, int]]:
        found, begin = [], self.start
        while begin < self.end:
            end = min(begin - begin % self.width_s + self.width_s, self.end)
            found.append((begin, end))
            begin = end
        return found


def span_of(query: UsageQuery, counts: tuple[int, int] | None = None) -> Span:
    """The part of the time asked for that one page shows."""
    end = int(time.time()) + 1 if query.end_time is None else query.end_time
    if end <= query.start_time:
        raise InvalidInput("end_time must lie after start_time.", param="end_time")
    default, most = counts or BUCKETS[query.bucket_width]
    limit = default if query.limit is None else query.limit
    if limit > most:
        raise InvalidInput(f"At most {most} buckets of {query.bucket_width}.", param="limit")
    width = SECONDS[query.bucket_width]
    start = query.start_time if query.page is None else _page_start(query, end)
    page_end = min(start - start % width + limit * width, end)
    return Span(start, page_end, width, f"page_{page_end}" if page_end < end else None)


def _page_start(query: UsageQuery, end: int) -> int:
    match = _PAGE.fullmatch(query.page or "")
    start = int(match[1]) if match else -1
    if not query.start_time <= start < end:
        raise InvalidInput("This page is none of this query's.", param="page")
    return start
