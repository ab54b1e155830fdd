"""Shared reads of billing: an organization's usage, its balance, the ledger's health.

Periods are half-open, ``start <= started_at < end``, with aware datetimes; days
are UTC days. Counts include every request, also failed and blocked ones; they
have cost 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connection
from django.db.models import Count, Prefetch, QuerySet, Sum

from billing.models import LedgerEntry, UsageEvent
from tenants.models import ApiKey, Organization, Project

# Whoever has not called by then starts again with another key.
FIRST_REQUEST_WITHIN = timedelta(days=7)


@dataclass(frozen=True)
class UsageSummary:
    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cost_micros: int = 0


def usage_summary(organization: Organization, start: datetime, end: datetime) -> UsageSummary:
    """Everything an organization used in the period."""
    return UsageSummary(**_events(organization, start, end).aggregate(**_totals()))


def spent_this_month(organization: Organization, project: Project | None = None) -> int:
    """Micro-dollars since the month began (UTC), of the organization or one of its projects."""
    now = datetime.now(UTC)
    month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    events = _events(organization, month, now + timedelta(days=1))
    if project is not None:
        events = events.filter(project=project)
    return int(events.aggregate(total=Sum("cost_micros", default=0))["total"])


def recent_requests(
    organization: Organization, start: datetime | None = None, end: datetime | None = None
) -> QuerySet[UsageEvent]:
    """An organization's requests, newest first, with project, key and price loaded."""
    events = UsageEvent.objects.filter(organization=organization)
    if start is not None:
        events = events.filter(started_at__gte=start)
    if end is not None:
        events = events.filter(started_at__lt=end)
    return with_names(events)


def with_names(events: QuerySet[UsageEvent]) -> QuerySet[UsageEvent]:
    """The same requests with project, key and price loaded."""
    # Not joined: the planner cannot know how many of a project's events are one period's,
    # and would sort them all with what is joined to find the newest fifty.
    keys = ApiKey.objects.defer("secret_hmac", "previous_secret_hmac")
    return events.prefetch_related("project", Prefetch("api_key", keys), "price")


def get_request(organization: Organization, request_id: str) -> UsageEvent | None:
    """One request of an organization, with what names it loaded; None if there is none."""
    keys = ApiKey.objects.select_related("created_by", "service_account")
    keys = keys.defer("secret_hmac", "previous_secret_hmac")
    events = UsageEvent.objects.filter(organization=organization, request_id=request_id)
    return events.prefetch_related("project", Prefetch("api_key", keys), "price").first()


def get_first_request(key: ApiKey) -> UsageEvent | None:
    """The first request that a key made in the week after it was made; None while there is none.

    The bound keeps the answer quick for a key that nobody used: it is found by its organization.
    """
    end = key.created_at + FIRST_REQUEST_WITHIN
    events = recent_requests(key.organization, key.created_at, end).filter(api_key=key)
    return events.order_by("started_at", "pk").first()


def ledger_balance(organization: Organization) -> int:
    """Micro-dollars that the organization owes: the sum of its receivable account."""
    entries = LedgerEntry.objects.filter(
        organization=organization, account=LedgerEntry.Account.RECEIVABLE
    )
    return int(entries.aggregate(total=Sum("amount_micros", default=0))["total"])


# What must not exist: a sentence, and a query for the offenders' names.
_LEDGER_CHECKS: tuple[tuple[str, str], ...] = (
    (
        "ledger transactions whose entries do not sum to zero",
        """
        SELECT transaction_id FROM billing_ledgerentry
        GROUP BY transaction_id HAVING sum(amount_micros) <> 0
        """,
    ),
    (
        "ledger transactions without entries",
        """
        SELECT id FROM billing_ledgertransaction AS posting WHERE NOT EXISTS (
            SELECT FROM billing_ledgerentry AS entry WHERE entry.transaction_id = posting.id)
        """,
    ),
    (
        "ledger entries of another organization than their transaction",
        """
        SELECT entry.id FROM billing_ledgerentry AS entry
        JOIN billing_ledgertransaction AS posting ON posting.id = entry.transaction_id
        WHERE entry.organization_id <> posting.organization_id
        """,
    ),
    (
        "usage with a cost that was not posted",
        """
        SELECT usage.request_id FROM billing_usageevent AS usage
        WHERE usage.cost_micros > 0 AND NOT EXISTS (
            SELECT FROM billing_ledgertransaction AS posting
            WHERE posting.usage_event_id = usage.id)
        """,
    ),
    (
        "usage postings without usage, or of another request or organization",
        """
        SELECT posting.reference FROM billing_ledgertransaction AS posting
        LEFT JOIN billing_usageevent AS usage ON usage.id = posting.usage_event_id
        WHERE posting.kind = 'usage' AND (
            usage.id IS NULL OR usage.request_id <> posting.reference
            OR usage.organization_id <> posting.organization_id)
        """,
    ),
    (
        "usage postings whose receivable is not the cost of the usage",
        """
        SELECT usage.request_id FROM billing_ledgertransaction AS posting
        JOIN billing_usageevent AS usage ON usage.id = posting.usage_event_id
        LEFT JOIN billing_ledgerentry AS entry
            ON entry.transaction_id = posting.id AND entry.account = 'receivable'
        WHERE posting.kind = 'usage'
            AND entry.amount_micros IS DISTINCT FROM usage.cost_micros
        """,
    ),
    (
        "organizations whose granted credit is not the sum of its postings",
        """
        SELECT organization.public_id FROM tenants_organization AS organization
        LEFT JOIN (
            SELECT posting.organization_id, -sum(entry.amount_micros) AS granted
            FROM billing_ledgertransaction AS posting
            JOIN billing_ledgerentry AS entry ON entry.transaction_id = posting.id
            WHERE posting.kind = 'credit' AND entry.account = 'receivable'
            GROUP BY posting.organization_id
        ) AS ledger ON ledger.organization_id = organization.id
        WHERE organization.credit_granted_micros <> coalesce(ledger.granted, 0)
        """,
    ),
)
_SHOWN = 10


def check_ledger() -> list[str]:
    """A sentence for each kind of problem in the ledger; none means that it is sound."""
    problems = []
    for sentence, offenders in _LEDGER_CHECKS:
        with connection.cursor() as cursor:
            cursor.execute(
                # The queries are this module's own constants.
                f"SELECT name::text, count(*) OVER () FROM ({offenders}) AS found(name)"  # noqa: S608
                " ORDER BY name LIMIT %s",
                [_SHOWN],
            )
            rows = cursor.fetchall()
        if rows:
            names = ", ".join(name for name, _ in rows)
            problems.append(f"{rows[0][1]} {sentence}: {names}")
    return problems


def _events(organization: Organization, start: datetime, end: datetime) -> QuerySet[UsageEvent]:
    return UsageEvent.objects.filter(
        organization=organization, started_at__gte=start, started_at__lt=end
    )


_SUMMED = ("prompt_tokens", "completion_tokens", "cached_tokens", "cost_micros")


def _totals() -> dict[str, Any]:
    """Aggregates under the names of ``UsageSummary``'s fields."""
    # Count("*"), because the covering index does not hold the primary key.
    return {"requests": Count("*")} | {name: Sum(name, default=0) for name in _SUMMED}
