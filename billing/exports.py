"""An organization's requests of a period as a file."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from django.db.models import Q, QuerySet

from billing.models import UsageEvent
from billing.selectors import recent_requests
from tenants import audit
from tenants.audit_events import guarded
from tenants.errors import InvalidInput
from tenants.exports import Report, organization_of, request_export, write_export
from tenants.jobs import HeldJob
from tenants.models import Job, Organization, User

USAGE_EXPORT = "export.usage"
EVENTS_A_PAGE = 1000
COLUMNS = (
    "request_id", "started_at", "project", "api_key", "model", "endpoint", "status",
    "prompt_tokens", "cached_tokens", "completion_tokens", "duration_ms",
    "time_to_first_token_ms", "cache_hit", "cost_micros",
)  # fmt: skip


def request_usage_export(
    organization: Organization,
    start: datetime,
    end: datetime,
    *,
    format: str,
    request_id: str | None = None,
    acting_user: User,
    address: str | None = None,
) -> Job:
    """Requests with ``start <= started_at < end``, newest first, one a line."""
    if end <= start:
        raise InvalidInput("The period ends before it begins.", param="end")
    return request_export(
        USAGE_EXPORT,
        organization,
        {"format": format, "start": start.isoformat(), "end": end.isoformat()},
        request_id=request_id,
        acting_user=acting_user,
        address=address,
    )


def write_usage_export(job: HeldJob, report: Report) -> dict[str, Any]:
    organization = organization_of(job)
    start, end = (datetime.fromisoformat(job.payload[name]) for name in ("start", "end"))
    events = recent_requests(organization, start, end).order_by("-started_at", "-pk")
    to_lines = csv_lines if job.payload["format"] == "csv" else _json_lines
    return write_export(job, to_lines(in_pages(events)), events.count(), report)


def in_pages(events: QuerySet[UsageEvent]) -> Iterator[UsageEvent]:
    """Newest first, page by page along the index: bounded memory, and no cursor held while it is written."""
    page = list(events[:EVENTS_A_PAGE])
    while page:
        yield from page
        last = page[-1]
        older = Q(started_at__lt=last.started_at) | Q(started_at=last.started_at, pk__lt=last.pk)
        page = list(events.filter(older, started_at__lte=last.started_at)[:EVENTS_A_PAGE])


def _row(event: UsageEvent) -> dict[str, Any]:
    named = {
        "started_at": event.started_at.isoformat(),
        "project": event.project.public_id,
        "api_key": event.api_key.public_id if event.api_key else "",
    }
    return {name: named.get(name, getattr(event, name)) for name in COLUMNS}


def _json_lines(events: Iterable[UsageEvent]) -> Iterator[str]:
    return (audit.canonical(_row(event)) + "\n" for event in events)


def csv_lines(events: Iterable[UsageEvent]) -> Iterator[str]:
    """A line for each request below one of names; spreadsheets take no field for a formula."""
    yield ",".join(COLUMNS) + "\r\n"
    for event in events:
        text = io.StringIO()
        csv.writer(text).writerow([guarded(value) for value in _row(event).values()])
        yield text.getvalue()
