"""Usage and cost in buckets of time: one grouped statement, whatever is asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from django.db.models import BooleanField, Count, ExpressionWrapper, F, Q, Sum
from django.db.models.functions import TruncDay, TruncHour, TruncMinute

from billing.models import UsageEvent
from tenants.errors import InvalidInput
from tenants.models import Organization

# As ``UsageEvent.endpoint`` has them. Usage of completions is what is not of embeddings,
# so that an endpoint that comes later is in one of the two.
COMPLETIONS = ("chat.completions", "completions", "messages")
EMBEDDINGS = ("embeddings", "rerank", "score")
# A page of a thousand minutes grouped by a thousand keys would be a million rows.
MOST_ROWS = 20_000
_TRUNCATIONS = {60: TruncMinute, 3600: TruncHour, 86_400: TruncDay}
# What a row is grouped by, under the name that clients know; a key's user is its creator.
_IN_A_BATCH = Q(tier=UsageEvent.Tier.BATCH)
GROUPS: dict[str, Any] = {
    "project_id": F("project__public_id"),
    "user_id": F("api_key__created_by__public_id"),
    "api_key_id": F("api_key__public_id"),
    "model": F("model"),
    "service_tier": F("tier"),  # UsageEvent.Tier
    "batch": ExpressionWrapper(_IN_A_BATCH, output_field=BooleanField()),
}


@dataclass(frozen=True)
class UsageFilters:
    """Public ids and names; empty asks for all."""

    is_embeddings: bool | None = None
    projects: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    api_keys: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    is_billed: bool = False  # only what cost something
    is_batch: bool | None = None


@dataclass(frozen=True)
class BucketRow:
    start: int  # of the bucket, cut to the time asked for; Unix seconds
    requests: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    cost_micros: int
    groups: dict[str, Any] = field(default_factory=dict)  # public id or name, or None


def usage_buckets(
    organization: Organization,
    start: int,
    end: int,
    width_s: int,
    filters: UsageFilters,
    group_by: tuple[str, ...] = (),
) -> list[BucketRow]:
    """Rows by time, then by group, for ``start <= started_at < end``; unused buckets have none."""
    names = [name for name in GROUPS if name in group_by]
    bucket = _TRUNCATIONS[width_s]("started_at", tzinfo=UTC)
    groups: dict[str, Any] = {f"by_{name}": GROUPS[name] for name in names}
    rows: Any = (
        UsageEvent.objects.filter(_kind(filters), **_conditions(organization, start, end, filters))
        .order_by()
        .values(bucket=bucket, **groups)
        .annotate(requests=Count("*"), **{name: Sum(name) for name in _SUMMED})
        .order_by("bucket", *groups)[: MOST_ROWS + 1]
    )
    found = [_bucket_row(row, names, start) for row in rows]
    if len(found) > MOST_ROWS:
        raise InvalidInput(
            f"The answer would have more than {MOST_ROWS} results; ask for fewer buckets.",
            param="limit",
        )
    return found


def by_bucket(rows: list[BucketRow]) -> dict[int, list[BucketRow]]:
    """Rows under the start of their bucket."""
    found: dict[int, list[BucketRow]] = {}
    for row in rows:
        found.setdefault(row.start, []).append(row)
    return found


_SUMMED = ("prompt_tokens", "completion_tokens", "cached_tokens", "cost_micros")


def _kind(filters: UsageFilters) -> Q:
    kind = Q()
    if filters.is_embeddings is not None:
        embeddings = Q(endpoint__in=EMBEDDINGS)
        kind &= embeddings if filters.is_embeddings else ~embeddings
    if filters.is_batch is not None:
        kind &= _IN_A_BATCH if filters.is_batch else ~_IN_A_BATCH
    return kind


def _conditions(
    organization: Organization, start: int, end: int, filters: UsageFilters
) -> dict[str, Any]:
    conditions: dict[str, Any] = {
        "organization": organization,
        "started_at__gte": datetime.fromtimestamp(start, UTC),
        "started_at__lt": datetime.fromtimestamp(end, UTC),
    }
    for path, values in (
        ("project__public_id__in", filters.projects),
        ("api_key__created_by__public_id__in", filters.users),
        ("api_key__public_id__in", filters.api_keys),
        ("model__in", filters.models),
    ):
        if values:
            conditions[path] = values
    if filters.is_billed:
        conditions["cost_micros__gt"] = 0
    return conditions


def _bucket_row(row: dict[str, Any], names: list[str], start: int) -> BucketRow:
    return BucketRow(
        start=max(int(row["bucket"].timestamp()), start),
        requests=row["requests"],
        groups={name: row[f"by_{name}"] for name in names},
        **{name: row[name] for name in _SUMMED},
    )
