"""Exports: a member asks for a file, a job writes it, whoever may see its rows fetches it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from django.db import transaction
from django.utils import timezone

from tenants import access, audit, audit_events, audit_rows, export_files, identifiers, jobs
from tenants.audit_events import AuditFilters
from tenants.errors import InvalidInput, NotFound
from tenants.jobs import HeldJob
from tenants.models import Job, Membership, Organization, User
from tenants.models.job import JobQuerySet

AUDIT_EXPORT = "export.audit"
# What a member needs to ask for an export and to fetch it, by the kind of its job.
PERMISSIONS = {AUDIT_EXPORT: "audit.read", "export.usage": "usage.read"}
FORMATS = ("csv", "jsonl")
# Each is a file on our disk for a week.
MOST_OPEN = 5
Report = Callable[[int, int | None], None]  # rows written, of how many if that is known


@transaction.atomic
def request_export(
    kind: str,
    organization: Organization,
    payload: Mapping[str, Any],
    *,
    request_id: str | None = None,
    acting_user: User,
    address: str | None = None,
) -> Job:
    """The job that writes the file; ``request_id`` makes two submissions of a form one."""
    _check(organization, payload)
    key = request_id or identifiers.random_text(16)
    job = jobs.enqueue(
        kind,
        f"{organization.public_id}:{key}"[:120],
        organization=organization,
        payload=payload,
        created_by=acting_user,
    )
    audit.record_event(
        acting_user=acting_user,
        action="export.requested",
        object_type="job",
        object_id=job.public_id,
        organization=organization,
        after={"kind": kind, **payload},
        address=address,
    )
    return job


def _check(organization: Organization, payload: Mapping[str, Any]) -> None:
    if payload.get("format") not in FORMATS:
        raise InvalidInput(f"A format is one of {', '.join(FORMATS)}.", param="format")
    if get_exports(organization).open().count() >= MOST_OPEN:
        raise InvalidInput(f"At most {MOST_OPEN} exports can be under way; wait for one of them.")


def request_audit_export(
    organization: Organization,
    filters: AuditFilters,
    *,
    format: str,
    request_id: str | None = None,
    acting_user: User,
    address: str | None = None,
) -> Job:
    """CSV: what the filters ask for, newest first. JSON lines: the whole chain in its order,
    because a part of one proves nothing."""
    asked = {name: _plain(value) for name, value in asdict(filters).items() if value}
    return request_export(
        AUDIT_EXPORT,
        organization,
        {"format": format, "filters": asked if format == "csv" else {}},
        request_id=request_id,
        acting_user=acting_user,
        address=address,
    )


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else list(value)


def _filters(stored: Mapping[str, Any]) -> AuditFilters:
    given: dict[str, Any] = {
        name: datetime.fromisoformat(value) if isinstance(value, str) else tuple(value)
        for name, value in stored.items()
    }
    return AuditFilters(**given)


# --- What the job does -------------------------------------------------------------------


def write_audit_export(job: HeldJob, report: Report) -> dict[str, Any]:
    organization = organization_of(job)
    if job.payload["format"] == "jsonl":
        total = audit_events.get_audit_events(organization).count()
        chain = audit_events.json_lines(audit_rows.export_rows(organization))
        return write_export(job, chain, total, report)
    events = audit_events.get_audit_events(organization, _filters(job.payload["filters"]))
    lines = audit_events.csv_lines(audit_events.stream_events(events))
    return write_export(job, lines, events.count(), report)


def organization_of(job: HeldJob) -> Organization:
    assert job.organization is not None, "an export is some organization's"
    return Organization.objects.get(pk=job.organization)


def write_export(
    job: HeldJob, lines: Iterator[str], total: int | None, report: Report
) -> dict[str, Any]:
    """The job's result. The file's name carries the fencing token: an attempt that was cut
    off and goes on nevertheless writes into a file of its own, to which no result leads."""
    report(0, total)
    name = f"{job.public_id}.{job.token}.{job.payload['format']}"
    written = export_files.write_file(name, lines, lambda rows: report(rows, total))
    return {
        "file": written.name,
        "lines": written.rows,
        "bytes": written.bytes,
        "sha256": written.sha256,
    }


# --- For whoever fetches it ----------------------------------------------------------------


def get_exports(organization: Organization) -> JobQuerySet:
    """Newest first; ``state``, ``progress_percent`` and ``expires_at`` tell how each fares."""
    exports = Job.objects.filter(organization=organization, kind__in=PERMISSIONS)
    return exports.select_related("created_by").defer("sealed").order_by("-pk")


def access_export(membership: Membership, public_id: str) -> Job:
    """The export, for a member who may see what is in it."""
    job = get_exports(membership.organization).filter(public_id=public_id).first()
    if job is None:
        raise NotFound("No such export.")
    access.check_permission(membership, PERMISSIONS[job.kind])
    return job


def expires_at(job: Job) -> datetime | None:
    """When the file goes away; None before it is there."""
    if job.state != Job.State.SUCCEEDED or job.finished_at is None:
        return None
    return job.finished_at + export_files.KEPT_FOR


def file_of(job: Job) -> Path:
    """The finished file; NotFound where there is none any more, or not yet."""
    until = expires_at(job)
    path = export_files.path_of(job.result["file"]) if until else None
    if until is None or path is None or until <= timezone.now():
        raise NotFound("This export has no file, or its file has expired.")
    return path
