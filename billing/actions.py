"""Every change to billing: recording usage and adding prices."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec
from django.db import DataError, IntegrityError, connection, transaction
from django.utils import timezone

from billing import intake, metrics
from billing.models import MAX_RATE_MICROS, MAX_TIER_PERCENT, Price, RejectedReport
from billing.pricebook import CHANNEL
from billing.prices import billed_tokens, cost_micros, select_price
from billing.usage import UsageReport, encode_report
from tenants import audit
from tenants.actions import touch_api_keys
from tenants.errors import InvalidInput
from tenants.models import User

logger = logging.getLogger(__name__)

# One statement: the ledger gets a posting for exactly the rows that this statement
# inserted, so two workers with overlapping batches cannot both post one request.
# A request that costs nothing has its usage row and no posting.
_RECORD_SQL = """
WITH incoming AS (
    SELECT * FROM jsonb_to_recordset(%s::jsonb) AS report(
        request_id text, organization bigint, project bigint, api_key bigint, model text,
        endpoint text, status text, source text, prompt_tokens int, cached_tokens int,
        completion_tokens int, started_at timestamptz, time_to_first_token_ms int,
        duration_ms int, replica text, cache_hit boolean, flags jsonb,
        engine_us bigint, tier text, price bigint, cost_micros bigint)
), usage AS (
    INSERT INTO billing_usageevent (
        request_id, organization_id, project_id, api_key_id, model, endpoint, status, source,
        prompt_tokens, cached_tokens, completion_tokens, started_at, time_to_first_token_ms,
        duration_ms, replica, cache_hit, flags, engine_us, tier, price_id,
        cost_micros, recorded_at)
    SELECT incoming.*, now() FROM incoming
    ON CONFLICT (request_id) DO NOTHING
    RETURNING id, organization_id, request_id, cost_micros
), posting AS (
    INSERT INTO billing_ledgertransaction (
        organization_id, kind, reference, usage_event_id, posted_at)
    SELECT organization_id, 'usage', request_id, id, now() FROM usage WHERE cost_micros > 0
    RETURNING id, organization_id, usage_event_id
), sides AS (
    INSERT INTO billing_ledgerentry (transaction_id, organization_id, account, amount_micros)
    SELECT posting.id, posting.organization_id, side.account, side.sign * usage.cost_micros
    FROM posting
    JOIN usage ON usage.id = posting.usage_event_id
    CROSS JOIN (VALUES ('receivable', 1), ('revenue', -1)) AS side(account, sign)
)
SELECT count(*) FROM usage
"""


@dataclass(frozen=True)
class Rejection:
    """A report that cannot be recorded: its bytes, its request id if known, and why."""

    raw: bytes
    reason: str
    request_id: str = ""


def record_usage(reports: Sequence[UsageReport]) -> int:
    """Record each request once, with its cost and posting; returns how many were new.

    One transaction for the batch. A report that makes no sense becomes a
    ``RejectedReport`` and the rest is recorded. If PostgreSQL refuses a row that
    passed our checks, the batch is halved until that row stands alone and is
    rejected. Any other database error is raised, and nothing was recorded by the
    transaction that raised it: call again with the same reports.
    """
    if not reports:
        return 0
    try:
        recorded, rejections = _record_batch(reports)
    except (DataError, IntegrityError) as error:
        if len(reports) > 1:
            middle = len(reports) // 2
            return record_usage(reports[:middle]) + record_usage(reports[middle:])
        reject_reports([_rejection(reports[0], f"refused by PostgreSQL: {error}")])
        return 0
    metrics.RECORDED.inc(recorded)
    metrics.DUPLICATES.inc(len(reports) - recorded - len(rejections))
    _announce_rejections(rejections)
    return recorded


def reject_reports(rejections: Sequence[Rejection]) -> None:
    """Set reports aside for people to look at; the same bytes twice are one row."""
    with transaction.atomic():
        _insert_rejections(rejections)
    _announce_rejections(rejections)


@transaction.atomic
def add_price(
    model: str,
    *,
    input_micros_per_million: int,
    cached_input_micros_per_million: int,
    output_micros_per_million: int,
    priority_percent: int = 175,
    flex_percent: int = 50,
    batch_percent: int = 50,
    effective_from: datetime | None = None,
    acting_user: User | None,
    address: str | None = None,
) -> Price:
    """A new price of ``model`` from ``effective_from`` (now, if None) on.

    Not from a moment in the past: what was recorded since keeps its cost, and the
    price list would tell something else.
    """
    rates = {
        "input_micros_per_million": input_micros_per_million,
        "cached_input_micros_per_million": cached_input_micros_per_million,
        "output_micros_per_million": output_micros_per_million,
    }
    percents = {
        "priority_percent": priority_percent,
        "flex_percent": flex_percent,
        "batch_percent": batch_percent,
    }
    effective_from = _checked_moment(effective_from)
    _check_price(model, rates, percents)
    try:
        with transaction.atomic():
            price = Price.objects.create(
                model=model, effective_from=effective_from, **rates, **percents
            )
    except IntegrityError as error:
        raise InvalidInput(
            "This model has a price from that moment on.", param="effective_from"
        ) from error
    audit.record_event(
        acting_user=acting_user,
        action="price.added",
        object_type="price",
        object_id=str(price.pk),
        after={"model": model, "effective_from": effective_from.isoformat(), **rates, **percents},
        address=address,
    )
    notify_prices_changed()
    return price


def notify_prices_changed() -> None:
    """Have every gateway read the prices again, on commit."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, '')", [CHANNEL])


@transaction.atomic
def _record_batch(reports: Sequence[UsageReport]) -> tuple[int, list[Rejection]]:
    good, rejections = _sort_out(reports)
    _insert_rejections(rejections)
    if not good:
        return 0, rejections
    # Every worker inserts in the same order, so that two of them never wait for each
    # other's request ids in a circle.
    good.sort(key=lambda report: report.request_id)
    rows = _priced_rows(good)
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('statement_timeout', '20s', true)")
        cursor.execute(_RECORD_SQL, [msgspec.json.encode(rows).decode()])
        (recorded,) = cursor.fetchone()
    touch_api_keys(_last_use(good))
    return recorded, rejections


def _sort_out(reports: Sequence[UsageReport]) -> tuple[list[UsageReport], list[Rejection]]:
    """Reports that can be recorded, and why the others cannot."""
    now = timezone.now()
    faults = [intake.field_fault(report, now) for report in reports]
    plausible = (report for report, fault in zip(reports, faults, strict=True) if fault is None)
    known = intake.get_known_tenants(plausible)
    good: list[UsageReport] = []
    rejections: list[Rejection] = []
    for report, field_fault in zip(reports, faults, strict=True):
        fault = field_fault or intake.owner_fault(report, known)
        if fault is None:
            good.append(report)
        else:
            rejections.append(_rejection(report, fault))
    return good, rejections


def _priced_rows(reports: Iterable[UsageReport]) -> list[dict[str, Any]]:
    """What ``_RECORD_SQL`` reads: the reports' fields with price and cost."""
    reports = list(reports)
    prices = list(Price.objects.filter(model__in={report.model for report in reports}))
    rows = []
    for report in reports:
        started_at = _moment(report.started_at)
        price = select_price(prices, report.model, started_at)
        if price is None:
            _warn_unpriced(report.model)
        fields = msgspec.structs.asdict(report)
        fields["started_at"] = started_at
        fields["price"] = price.pk if price else None
        fields["cost_micros"] = (
            cost_micros(price, billed_tokens(report), report.tier) if price else 0
        )
        rows.append(fields)
    return rows


@lru_cache(maxsize=1024)
def _warn_unpriced(model: str) -> None:
    """Once per model and process, not once per request."""
    logger.warning("model has no price, its requests cost nothing", extra={"model": model})


def _last_use(reports: Iterable[UsageReport]) -> dict[int, datetime]:
    used: dict[int, float] = {}
    for report in reports:
        if report.api_key is not None:
            used[report.api_key] = max(report.started_at, used.get(report.api_key, 0.0))
    return {key: _moment(at) for key, at in used.items()}


def _moment(unix_s: float) -> datetime:
    return datetime.fromtimestamp(unix_s, UTC)


def _rejection(report: UsageReport, reason: str) -> Rejection:
    try:
        raw = encode_report(report)
    except (msgspec.MsgspecError, UnicodeEncodeError, OverflowError):
        raw = repr(report).encode(errors="backslashreplace")
    return Rejection(raw, reason, report.request_id)


def _insert_rejections(rejections: Iterable[Rejection]) -> None:
    RejectedReport.objects.bulk_create(
        [
            RejectedReport(
                digest=hashlib.sha256(rejection.raw).hexdigest(),
                request_id=_stored_text(rejection.request_id, 40),
                reason=_stored_text(rejection.reason, 200),
                raw=rejection.raw[: RejectedReport.MAX_RAW_BYTES],
            )
            for rejection in rejections
        ],
        ignore_conflicts=True,
    )


def _stored_text(text: str, longest: int) -> str:
    """``text`` as PostgreSQL can hold it."""
    return text.encode(errors="replace").decode().replace("\0", "?")[:longest]


def _announce_rejections(rejections: Sequence[Rejection]) -> None:
    if not rejections:
        return
    metrics.REJECTED.inc(len(rejections))
    # One line a batch: a flood of broken reports must not become a flood of lines.
    logger.error(
        "usage reports rejected",
        extra={
            "count": len(rejections),
            "reasons": sorted({rejection.reason for rejection in rejections})[:5],
            "request_ids": [rejection.request_id for rejection in rejections[:5]],
        },
    )


def _checked_moment(effective_from: datetime | None) -> datetime:
    now = timezone.now()
    if effective_from is None:
        return now
    if timezone.is_naive(effective_from):
        raise InvalidInput("A price's start needs a time zone.", param="effective_from")
    if effective_from < now:
        raise InvalidInput("A price cannot start in the past.", param="effective_from")
    return effective_from


def _check_price(model: str, rates: dict[str, int], percents: dict[str, int]) -> None:
    if not 1 <= len(model) <= 120 or not model.isprintable():
        raise InvalidInput("A model's name has 1 to 120 printable characters.", param="model")
    for name, rate in rates.items():
        if not 0 <= rate <= MAX_RATE_MICROS:
            raise InvalidInput(f"A rate lies between 0 and {MAX_RATE_MICROS}.", param=name)
    for name, percent in percents.items():
        if not 0 <= percent <= MAX_TIER_PERCENT:
            raise InvalidInput(
                f"A tier pays 0 to {MAX_TIER_PERCENT} percent of the price.", param=name
            )
