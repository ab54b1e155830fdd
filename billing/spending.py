"""What was used so far, for admission counters that Redis lost or never had.

A settled request lies in the stream of reports until it is a row, and for a moment in
both. So the stream is read first and the rows without those requests: read the other way
round, one that is recorded in between would be in neither.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime

import msgspec
import psycopg
from asgiref.sync import sync_to_async
from django.db import Error as DatabaseError
from django.db import connection, transaction

from billing.models import UsageEvent
from billing.pricebook import Pricebook
from billing.usage import FIELD, STREAM, UsageReport, decode_report
from tenants import scope
from tenants.admission import Spent, SpentQuery
from tenants.errors import AdmissionUnavailable
from tenants.redis_link import RedisLink

log = logging.getLogger(__name__)

# Some seconds of reports of a busy installation, and 3 ms of Redis. When more wait, the
# collector is behind, and nobody can say what was spent.
MOST_WAITING = 10_000
# One index range of one subject; what takes longer would hold up a client for too long.
STATEMENT_TIMEOUT = "3s"

_SQL = """
SELECT coalesce(sum(prompt_tokens::bigint + completion_tokens)
                FILTER (WHERE started_at >= %(since)s), 0),
       coalesce(sum(cost_micros) FILTER (WHERE started_at >= %(since)s), 0),
       coalesce(sum(cost_micros), 0)
FROM billing_usageevent
WHERE organization_id = %(organization)s
  AND (%(project)s::bigint IS NULL OR project_id = %(project)s)
  AND (%(api_key)s::bigint IS NULL OR api_key_id = %(api_key)s)
  AND (%(model)s::text IS NULL OR model = %(model)s)
  AND (%(needs_life)s OR started_at >= %(since)s)
  AND request_id <> ALL(%(waiting)s::text[])
"""


class SpendingReader:
    """``ReadSpent`` of a gateway: one look at the stream, one statement."""

    def __init__(self, link: RedisLink, pricebook: Pricebook):
        self._link = link
        self._pricebook = pricebook

    async def __call__(self, query: SpentQuery) -> Spent:
        """Raises AdmissionUnavailable when PostgreSQL or the collector is behind, RedisError."""
        entries = await self._link.call("XRANGE", STREAM, "-", "+", "COUNT", MOST_WAITING)
        if len(entries) >= MOST_WAITING:
            raise AdmissionUnavailable("What was spent is not recorded yet. Try again shortly.")
        try:
            return await sync_to_async(self._read, thread_sensitive=False)(query, entries)
        except (DatabaseError, psycopg.Error, OSError) as error:
            log.warning("spending.database_unavailable", extra={"error": repr(error)})
            raise AdmissionUnavailable(
                "What was spent cannot be read right now. Try again shortly."
            ) from error

    def _read(self, query: SpentQuery, entries: Sequence[list[list[bytes]]]) -> Spent:
        waiting = _reports_of(query, entries)
        try:
            with scope.for_organization(query.organization):
                tokens, micros, life = _recorded(query, list(waiting))
        finally:
            connection.close()
        for report in waiting.values():
            cost = self._pricebook.cost_micros(report)
            life += cost
            if report.started_at >= query.month_start.timestamp():
                tokens += report.prompt_tokens + report.completion_tokens
                micros += cost
        return Spent(tokens, micros, life if query.needs_life else None)


def _recorded(query: SpentQuery, waiting: list[str]) -> tuple[int, int, int]:
    parameters: dict[str, int | str | bool | datetime | list[str] | None] = {
        "organization": query.organization,
        "project": query.project,
        "api_key": query.api_key,
        "model": query.model,
        "since": query.month_start,
        "needs_life": query.needs_life,
        "waiting": waiting,
    }
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT set_config('statement_timeout', %s, true)", [STATEMENT_TIMEOUT])
        cursor.execute(_SQL, parameters)
        tokens, micros, life = cursor.fetchone()
    return int(tokens), int(micros), int(life)


def _reports_of(query: SpentQuery, entries: Sequence[list[list[bytes]]]) -> dict[str, UsageReport]:
    """The waiting reports of this subject, each request once."""
    reports = {}
    for _, fields in entries:
        raw = dict(zip(fields[::2], fields[1::2], strict=True)).get(FIELD, b"")
        try:
            report = decode_report(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            continue  # the collector sets it aside and bills nobody
        if _concerns(query, report):
            reports[report.request_id] = report
    return reports


def _concerns(query: SpentQuery, report: UsageReport) -> bool:
    return (
        report.organization == query.organization
        and query.project in (None, report.project)
        and query.api_key in (None, report.api_key)
        and query.model in (None, report.model)
    )


def recent_output_tokens(api_key: int, model: str, most: int) -> list[int]:
    """Lengths of the newest answers that this key got from this model, oldest first."""
    events = UsageEvent.objects.filter(
        api_key_id=api_key, model=model, status=UsageEvent.Status.COMPLETED
    )
    newest = events.order_by("-started_at").values_list("completion_tokens", flat=True)[:most]
    return list(newest)[::-1]
