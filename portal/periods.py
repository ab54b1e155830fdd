"""The span of time a usage page looks at. Pure: ``now`` is given."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

DEFAULT = "7d"
LABELS: dict[str, str | Promise] = {
    "24h": _("24 hours"),
    "7d": _("7 days"),
    "30d": _("30 days"),
    "month": _("This month"),
}
# What a period is compared with.
BEFORE: dict[str, str | Promise] = {
    "24h": _("vs. the 24 hours before"),
    "7d": _("vs. the 7 days before"),
    "30d": _("vs. the 30 days before"),
    "month": _("vs. last month by now"),
}
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
    def label(self) -> str | Promise:
        return LABELS[self.name]

    @property
    def than(self) -> str:
        return str(BEFORE[self.name])

    @property
    def steps(self) -> tuple[str, ...]:
        """The widths of a chart's buckets that make sense, the usual one first."""
        return {"24h": ("hour",), "7d": ("day", "hour")}.get(self.name, ("day",))

    def step(self, asked: str) -> str:
        return asked if asked in self.steps else self.steps[0]

    def before(self) -> Period:
        """The period of the same length before it; of a month so far, the last month's part."""
        if self.name != "month":
            return Period(self.name, self.start - (self.end - self.start), self.start)
        start = month_to_date(self.start - timedelta(days=1)).start
        return Period(self.name, start, min(self.start, start + (self.end - self.start)))


def read_period(name: str, now: datetime) -> Period:
    """The named period ending now; an unknown name means the default one."""
    if name == "month":
        return month_to_date(now)
    name = name if name in _LENGTHS else DEFAULT
    return Period(name, now - _LENGTHS[name], now)


def month_to_date(now: datetime) -> Period:
    start = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return Period("month", start, now)
