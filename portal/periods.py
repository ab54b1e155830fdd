"""The span of time a usage page looks at. Pure: ``now`` is given."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

DEFAULT = "30d"
LABELS = {"24h": "24 hours", "7d": "7 days", "30d": "30 days", "month": "This month"}
_LENGTHS = {
    "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
}


@dataclass(frozen=True)
class Period:
    """From ``start`` up to and without ``end``, both aware, in UTC."""

    name: str
    start: datetime
    end: datetime

    @property
    def label(self) -> str:
        return LABELS[self.name]


def read_period(name: str, now: datetime) -> Period:
    """The named period ending now; an unknown name means the default one."""
    if name == "month":
        return month_to_date(now)
    name = name if name in _LENGTHS else DEFAULT
    return Period(name, now - _LENGTHS[name], now)


def month_to_date(now: datetime) -> Period:
    start = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return Period("month", start, now)
