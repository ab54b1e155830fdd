"""Usage reports become rows and postings: once each, a batch in one transaction.

The way of a batch that is as it should be is short: each report is checked by itself,
priced, and all go to PostgreSQL in one statement, whose triggers check for the whole batch
who owns what and that the ledger balances (``migrations/0007``). Only if PostgreSQL refuses
it does anybody look for the report that spoils it.
"""

from __future__ import annotations

import hashlib
import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

import msgspec
from django.db import DataError, IntegrityError, connection, transaction
from django.utils import timezone

from billing import intake, metrics
from billing.models import Price, RejectedReport
from billing.prices import billed_tokens, cost_micros
from billing.usage import UsageReport, encode_report
from tenants.actions import touch_api_keys

logger = logging.getLogger(__name__)

# One statement: the ledger gets a posting for exactly the rows that this statement
# inserted, so two workers with overlapping batches cannot both post one request.
# A request that costs nothing has its usage row and no posting. JSON, because PostgreSQL
# reads it in two thirds of JSONB's time and we write it in a fifth of that of arrays.
_RECORD_SQL = """
WITH incoming AS (
    SELECT * FROM json_to_recordset(%s::json) AS report(
        request_id text, organization bigint, project bigint, api_key bigint, model text,
        endpoint text, status text, source text, prompt_tokens int, cached_tokens int,
        completion_tokens int, started_at double precision, time_to_first_token_ms int,
        duration_ms int, replica text, cache_hit boolean, flags jsonb,
        engine_us bigint, tier text, price bigint, cost_micros bigint)
), usage AS (
    INSERT INTO billing_usageevent (
        request_id, organization_id, project_id, api_key_id, model, endpoint, status, source,
        prompt_tokens, cached_tokens, completion_tokens, started_at, time_to_first_token_ms,
        duration_ms, replica, cache_hit, flags, engine_us, tier, price_id,
        cost_micros, recorded_at)
    SELECT request_id, organization, project, api_key, model, endpoint, status, source,
        prompt_tokens, cached_tokens, completion_tokens, to_timestamp(started_at),
        time_to_first_token_ms, duration_ms, replica, cache_hit, flags, engine_us, tier, price,
        cost_micros, now()
    FROM incoming
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
    now = timezone.now().timestamp()
    good: list[UsageReport] = []
    rejections: list[Rejection] = []
    for report in reports:
        fault = intake.field_fault(report, now)
        if fault is None:
            good.append(report)
        else:
            rejections.append(_rejection(report, fault))
    if rejections:
        reject_reports(rejections)
    return _record(good) if good else 0


def reject_reports(rejections: Sequence[Rejection]) -> None:
    """Set reports aside for people to look at; the same bytes twice are one row."""
    with transaction.atomic():
        _insert_rejections(rejections)
    _announce_rejections(rejections)


def _record(reports: list[UsageReport]) -> int:
    """Record those whose fields make sense, whatever PostgreSQL thinks of some of them."""
    # Every worker inserts in the same order, so that two of them never wait for each
    # other's request ids in a circle.
    reports.sort(key=_request_id)
    try:
        recorded = _insert(reports)
    except (DataError, IntegrityError) as error:
        return _record_without_strangers(reports, error)
    metrics.RECORDED.inc(recorded)
    metrics.DUPLICATES.inc(len(reports) - recorded)
    return recorded


def _request_id(report: UsageReport) -> str:
    return report.request_id


@transaction.atomic
def _insert(reports: Sequence[UsageReport]) -> int:
    payload = msgspec.json.encode(_priced_rows(reports)).decode()
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('statement_timeout', '20s', true)")
        cursor.execute(_RECORD_SQL, [payload])
        (recorded,) = cursor.fetchone()
    touch_api_keys(_last_use(reports))
    return int(recorded)


def _record_without_strangers(reports: list[UsageReport], error: Exception) -> int:
    """After a refusal: set aside whose owners are not what they say, else halve the batch."""
    known = intake.get_known_tenants(reports)
    faults = [intake.owner_fault(report, known) for report in reports]
    strangers = [_rejection(r, fault) for r, fault in zip(reports, faults, strict=True) if fault]
    if strangers:
        reject_reports(strangers)
        rest = [r for r, fault in zip(reports, faults, strict=True) if not fault]
        return _record(rest) if rest else 0
    if len(reports) > 1:
        middle = len(reports) // 2
        return _record(reports[:middle]) + _record(reports[middle:])
    reject_reports([_rejection(reports[0], f"refused by PostgreSQL: {error}")])
    return 0


# What ``_RECORD_SQL`` reads: the report's fields, in their order, with price and cost.
_Row = msgspec.defstruct(
    "_Row",
    [*((name, object) for name in UsageReport.__struct_fields__), "price", "cost_micros"],
    frozen=True,
    gc=False,
)


def _priced_rows(reports: Sequence[UsageReport]) -> list[msgspec.Struct]:
    prices = _newest_first({report.model for report in reports})
    rows = []
    for report in reports:
        number, cost = None, 0
        for begun_at, price in prices[report.model]:
            if begun_at <= report.started_at:
                number, cost = price.pk, cost_micros(price, billed_tokens(report), report.tier)
                break
        else:
            _warn_unpriced(report.model)
        rows.append(_Row(*msgspec.structs.astuple(report), number, cost))
    return rows


def _newest_first(models: set[str]) -> defaultdict[str, list[tuple[float, Price]]]:
    """Each model's prices with the Unix seconds from which they hold."""
    found: defaultdict[str, list[tuple[float, Price]]] = defaultdict(list)
    for price in Price.objects.filter(model__in=models).order_by("-effective_from"):
        found[price.model].append((price.effective_from.timestamp(), price))
    return found


@lru_cache(maxsize=1024)
def _warn_unpriced(model: str) -> None:
    """Once per model and process, not once per request."""
    logger.warning("model has no price, its requests cost nothing", extra={"model": model})


def _last_use(reports: Iterable[UsageReport]) -> dict[int, datetime]:
    used: dict[int, float] = {}
    for report in reports:
        key, at = report.api_key, report.started_at
        if key is not None and used.get(key, 0.0) < at:
            used[key] = at
    return {key: datetime.fromtimestamp(at, UTC) for key, at in used.items()}


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
