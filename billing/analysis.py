"""What an organization used, cut by time and by one dimension, for people to look at.

One reading of the period's events answers for a chart, its totals and the table beside it:
PostgreSQL sums by bucket and slice, ranks the slices and puts all but the largest together, so
that an organization with ten thousand keys costs no more rows than one with three. Periods are
half-open; buckets are hours or days of UTC.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from django.db import connection
from django.db.models import (
    Aggregate,
    Count,
    DateTimeField,
    F,
    Func,
    IntegerField,
    Q,
    QuerySet,
    Sum,
    Value,
)
from django.db.models.functions import Coalesce

from billing.models import UsageEvent
from tenants.models import Organization

Step = Literal["hour", "day"]
Dimension = Literal["", "project", "key", "model", "user"]
Measure = Literal["requests", "errors", "prompt_tokens", "completion_tokens", "cached_tokens",
                  "cost_micros"]  # fmt: skip
MEASURES: tuple[Measure, ...] = (
    "requests", "errors", "prompt_tokens", "completion_tokens", "cached_tokens", "cost_micros",
)  # fmt: skip
STEPS: dict[Step, timedelta] = {"hour": timedelta(hours=1), "day": timedelta(days=1)}
# Slices with a row of their own in the table, and with a colour of their own in the chart:
# with the rest there are as many as a chart has colours.
MOST_SLICES = 50
DRAWN_SLICES = 5
# Neither an answer nor a client's own going away.
FAILURES = (UsageEvent.Status.FAILED, UsageEvent.Status.BLOCKED)


@dataclass(frozen=True)
class Asked:
    """Which of an organization's requests: primary keys and names; None and "" ask for all."""

    organization: Organization
    start: datetime
    end: datetime
    project: int | None = None
    api_key: int | None = None
    model: str = ""
    status: str = ""  # UsageEvent.Status
    service_account: int | None = None
    creator: int | None = None  # who made the key, where it is of no service account
    is_without_key: bool = False  # people in the portal

    def moved(self, start: datetime, end: datetime) -> Asked:
        return replace(self, start=start, end=end)


@dataclass(frozen=True)
class Sums:
    requests: int = 0
    errors: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cost_micros: int = 0

    def __add__(self, other: Sums) -> Sums:
        return Sums(*(getattr(self, name) + getattr(other, name) for name in MEASURES))


@dataclass(frozen=True)
class Slice:
    """One project's, key's, model's or person's part. ``key`` names it as ``_SLICES`` does."""

    key: str
    sums: Sums


@dataclass(frozen=True)
class Analysis:
    """``buckets`` has every bucket of the period; in ``cells`` those of the first
    ``DRAWN_SLICES`` slices lie under their keys, of all others together under None."""

    buckets: tuple[datetime, ...]
    total: Sums
    slices: tuple[Slice, ...]  # the largest first, at most MOST_SLICES
    rest: Sums  # of the slices beyond those
    cells: dict[str | None, dict[datetime, Sums]]

    def row(self, key: str | None) -> list[Sums]:
        """A slice's sums in the order of the buckets."""
        found = self.cells.get(key, {})
        return [found.get(bucket, Sums()) for bucket in self.buckets]

    def by_time(self) -> list[Sums]:
        """The sums of all slices in the order of the buckets."""
        rows = [self.row(key) for key in self.cells]
        nothing = Sums()
        return [sum(cells, nothing) for cells in zip(*rows, strict=True)] or [
            nothing for _ in self.buckets
        ]


@dataclass(frozen=True)
class Wait:
    """Milliseconds until the first token, of the requests that had one; None: there were none."""

    median_ms: int | None = None
    p95_ms: int | None = None


def analyse(asked: Asked, step: Step, by: Dimension = "", rank: Measure = "requests") -> Analysis:
    """The period in buckets and slices, the slices with the most of ``rank`` first."""
    cells = (
        select_events(asked)
        .order_by()
        .values(bucket=_Bucket(step), slice=_SLICES[by])
        .annotate(**_SUMS)
    )
    sql, parameters = cells.query.sql_with_params()
    with connection.cursor() as cursor:
        cursor.execute(
            # The inner statement is the ORM's, the rest this module's own constants.
            _ANALYSE.format(cells=sql, rank=MEASURES[MEASURES.index(rank)]),
            [*parameters, MOST_SLICES, DRAWN_SLICES],
        )
        rows = cursor.fetchall()
    return _analysis(rows, buckets_of(asked.start, asked.end, step))


def total_of(asked: Asked) -> Sums:
    """The whole period's, without the cost of cutting it."""
    found: Any = select_events(asked).order_by().aggregate(**_SUMS)
    return Sums(**{name: found[name] or 0 for name in MEASURES})


def first_token_waits(asked: Asked, step: Step | None = None) -> dict[datetime | None, Wait]:
    """By bucket; without a step the whole period's, under None."""
    events = select_events(asked).filter(time_to_first_token_ms__isnull=False).order_by()
    if step is None:
        found: Any = events.aggregate(**_PERCENTILES)
        return {None: Wait(found["median"], found["p95"])}
    rows: Any = events.values(bucket=_Bucket(step)).annotate(**_PERCENTILES)
    return {row["bucket"]: Wait(row["median"], row["p95"]) for row in rows}


def select_events(asked: Asked) -> QuerySet[UsageEvent]:
    """The requests themselves, newest first."""
    wanted = Q(
        organization=asked.organization, started_at__gte=asked.start, started_at__lt=asked.end
    )
    for path, value in (
        ("project", asked.project),
        ("api_key", asked.api_key),
        ("model", asked.model),
        ("status", asked.status),
        ("api_key__service_account", asked.service_account),
        ("api_key__created_by", asked.creator),
    ):
        if value:
            wanted &= Q(**{path: value})
    if asked.creator:
        wanted &= Q(api_key__service_account=None)
    if asked.is_without_key:
        wanted &= Q(api_key=None)
    return UsageEvent.objects.filter(wanted)


def buckets_of(start: datetime, end: datetime, step: Step) -> tuple[datetime, ...]:
    """Where the buckets that the period touches begin."""
    first = start.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    if step == "day":
        first = first.replace(hour=0)
    width = STEPS[step]
    return tuple(first + width * number for number in range(max(0, -((first - end) // width))))


class _Percentile(Aggregate):
    """The smallest value that at least this share of the values does not exceed."""

    function = "percentile_disc"
    template = "%(function)s(%(share)s) WITHIN GROUP (ORDER BY %(expressions)s)"
    output_field = IntegerField()

    def __init__(self, expression: str, share: float):
        super().__init__(expression, share=share)


_PERCENTILES = {
    "median": _Percentile("time_to_first_token_ms", 0.5),
    "p95": _Percentile("time_to_first_token_ms", 0.95),
}
# Count("*"), because the covering index does not hold the primary key.
_SUMS: dict[str, Any] = {
    name: Sum(name) for name in MEASURES if name not in {"requests", "errors"}
} | {"requests": Count("*"), "errors": Count(Value(1), filter=Q(status__in=FAILURES))}


# What a slice is grouped by, as it lies in the table: turning each row's number into text took
# a third of the statement. A key's user is its service account or, negative, its creator.
_SLICES: dict[Dimension, Any] = {
    "": Value(""),
    "project": F("project_id"),
    "key": F("api_key_id"),
    "model": F("model"),
    "user": Coalesce(F("api_key__service_account_id"), -F("api_key__created_by_id")),
}

_ADDED = ", ".join(f"sum({name})::bigint AS {name}" for name in MEASURES)
_NAMES = ", ".join(MEASURES)
# Rows of slices (place 1, 2, …; without a bucket), of the slices beyond them (place 0), and of
# buckets, whose slice is NULL where it is not drawn.
_ANALYSE = f"""
WITH cell AS MATERIALIZED (SELECT bucket, coalesce(slice::text, '') AS slice, {_NAMES} FROM ({{cells}}) AS summed),
ranked AS (
    SELECT slice, row_number() OVER (ORDER BY sum({{rank}}) DESC, slice) AS place, {_ADDED}
    FROM cell GROUP BY slice
), shown AS (
    SELECT CASE WHEN place <= %s THEN place ELSE 0 END AS place, slice, {_NAMES} FROM ranked
)
SELECT place, NULL::timestamptz AS bucket, CASE WHEN place > 0 THEN min(slice) END, {_ADDED}
FROM shown GROUP BY place, CASE WHEN place > 0 THEN slice END
UNION ALL
SELECT NULL, cell.bucket, CASE WHEN ranked.place <= %s THEN cell.slice END AS drawn,
    {", ".join(f"sum(cell.{name})::bigint" for name in MEASURES)}
FROM cell JOIN ranked USING (slice) GROUP BY cell.bucket, drawn
"""  # noqa: S608 - this module's own constants


class _Bucket(Func):
    """By division: what ``date_trunc`` does by a calendar takes three times as long."""

    function = "date_bin"
    template = "%(function)s('%(width)s', %(expressions)s, 'epoch')"
    output_field = DateTimeField()

    def __init__(self, step: Step):
        super().__init__("started_at", width=f"1 {step}")


def _analysis(rows: Sequence[tuple[Any, ...]], buckets: tuple[datetime, ...]) -> Analysis:
    slices: list[tuple[int, Slice]] = []
    cells: dict[str | None, dict[datetime, Sums]] = {}
    rest = total = Sums()
    for place, bucket, key, *amounts in rows:
        sums = Sums(*amounts)
        if bucket is not None:
            cells.setdefault(key, {})[bucket.astimezone(UTC)] = sums
            continue
        total += sums
        if place:
            slices.append((place, Slice(key, sums)))
        else:
            rest = sums
    ranked = tuple(each for _, each in sorted(slices, key=lambda pair: pair[0]))
    return Analysis(buckets, total, ranked, rest, cells)
