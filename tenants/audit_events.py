"""An organization's audit events as people and programs ask for them: filtered, newest first."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Q, QuerySet

from tenants import audit, audit_chain
from tenants.audit_rows import Row
from tenants.models import AuditEvent, Organization

EVENTS_A_PAGE = 500


@dataclass(frozen=True)
class AuditFilters:
    """Empty asks for everything. Times are half-open: ``since <= at < until``."""

    actions: tuple[str, ...] = ()
    projects: tuple[str, ...] = ()  # public ids
    object_ids: tuple[str, ...] = ()
    actor_ids: tuple[str, ...] = ()  # public ids of users and of API keys
    actor_emails: tuple[str, ...] = ()
    actor_types: tuple[str, ...] = ()  # AuditEvent.Actor
    since: datetime | None = None
    until: datetime | None = None


EVERYTHING = AuditFilters()


def get_audit_events(
    organization: Organization, filters: AuditFilters = EVERYTHING
) -> QuerySet[AuditEvent]:
    """Newest first, with who acted loaded."""
    events = AuditEvent.objects.filter(_condition(filters), organization=organization)
    return (
        events.select_related("acting_user", "acting_key")
        .defer("content", "acting_key__secret_hmac", "acting_key__previous_secret_hmac")
        .order_by("-at", "-pk")
    )


def _condition(filters: AuditFilters) -> Q:
    wanted = Q()
    for field, values in (
        ("action", filters.actions),
        ("project_id", filters.projects),
        ("object_id", filters.object_ids),
        ("actor_type", filters.actor_types),
    ):
        if values:
            wanted &= Q(**{f"{field}__in": values})
    if filters.actor_ids:
        by_user = Q(acting_user__public_id__in=filters.actor_ids)
        wanted &= by_user | Q(acting_key__public_id__in=filters.actor_ids)
    if filters.actor_emails:
        # A member of staff is not found by their address: members do not see it either.
        emails = [email.lower() for email in filters.actor_emails]
        wanted &= Q(acting_user__email__in=emails, actor_type=AuditEvent.Actor.USER)
    if filters.since is not None:
        wanted &= Q(at__gte=filters.since)
    if filters.until is not None:
        wanted &= Q(at__lt=filters.until)
    return wanted


def stream_events(events: QuerySet[AuditEvent]) -> Iterator[AuditEvent]:
    """The same events page by page: bounded memory, and no cursor held while a client reads."""
    page = list(events[:EVENTS_A_PAGE])
    while page:
        yield from page
        last = page[-1]
        older = Q(at__lt=last.at) | Q(at=last.at, pk__lt=last.pk)
        page = list(events.filter(older, at__lte=last.at)[:EVENTS_A_PAGE])


# --- Exports: an iterator of text, to be streamed ------------------------------------------


def json_lines(rows: Iterable[Row]) -> Iterator[str]:
    """A chain (``audit_rows.export_rows``) that ``verify_audit --file`` checks offline."""
    return (audit_chain.to_line(row.link) for row in rows)


CSV_COLUMNS = (
    "number", "at", "action", "actor_type", "actor_id", "actor", "object_type", "object_id",
    "project", "before", "after", "address", "hash",
)  # fmt: skip


def csv_lines(events: Iterable[AuditEvent]) -> Iterator[str]:
    """For a spreadsheet, which must not take any cell for a formula."""
    yield _csv_line(CSV_COLUMNS)
    for event in events:
        yield _csv_line(_cells(event))


def _cells(event: AuditEvent) -> tuple[Any, ...]:
    actor_id, actor = actor_of(event)
    return (
        event.number, event.at.isoformat(), event.action, event.actor_type, actor_id, actor,
        event.object_type, event.object_id, event.project_id, audit.canonical(event.before),
        audit.canonical(event.after), event.address or "", event.hash,
    )  # fmt: skip


def actor_of(event: AuditEvent) -> tuple[str, str]:
    """Who acted, as members may know it: public id and name. Staff are staff, nobody by name."""
    if event.actor_type == AuditEvent.Actor.STAFF:
        return "", "Staff"
    if event.acting_user is not None:
        return event.acting_user.public_id, event.acting_user.email
    if event.acting_key is not None:
        return event.acting_key.public_id, str(event.acting_key)
    return "", "The platform"


def _csv_line(cells: Iterable[Any]) -> str:
    text = io.StringIO()
    csv.writer(text).writerow([guarded(cell) for cell in cells])
    return text.getvalue()


# What spreadsheets begin a formula with; the wide forms are read as the others are.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def guarded(cell: Any) -> str:
    """The cell with an apostrophe before what would be a formula."""
    text = "" if cell is None else str(cell)
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA) else text
