"""The audit log: filtered, by pages, exported."""

from __future__ import annotations

from collections.abc import Iterator

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils import timezone
from django.views.decorators.http import require_safe

from portal.audit_forms import AuditFilter
from portal.audit_words import describe
from portal.cursors import neighbours, page_of
from portal.pages import organization_page, render_page
from portal.streams import stream_lines
from portal.views.keys import query_of
from tenants import audit_events, audit_rows, selectors
from tenants.models import AuditEvent, Membership
from tenants.pages import Listed

PAGE_SIZE = 50
OFFERED_ACTORS = 200


@require_safe
@organization_page("audit.read")
def audit_log(request: HttpRequest, membership: Membership) -> HttpResponse:
    organization = membership.organization
    form = _form(request, membership)
    is_asked_well = form.is_valid()
    listed = _page(request, membership, form)
    names = selectors.get_object_names(
        organization, ((event.object_type, event.object_id) for event in listed.rows)
    )
    context = {
        "lines": [describe(event, organization.public_id, names) for event in listed.rows],
        "form": form,
        "is_filtered": bool(form.chosen),
        "query": query_of(form.chosen),
        "actors": selectors.get_members(organization)[:OFFERED_ACTORS],
        **neighbours(request, listed),
    }
    status = 200 if is_asked_well else 400
    return render_page(
        request, membership, "portal/audit.html", context, tab="audit", status=status
    )


def _form(request: HttpRequest, membership: Membership) -> AuditFilter:
    return AuditFilter(request.GET, projects=selectors.get_projects(membership.organization))


def _page(request: HttpRequest, membership: Membership, form: AuditFilter) -> Listed[AuditEvent]:
    organization = membership.organization
    return page_of(
        request,
        audit_events.get_audit_events(organization, form.filters),
        among=audit_events.get_audit_events(organization),
        size=PAGE_SIZE,
        key=("at", "pk"),
    )


@require_safe
@organization_page("audit.read")
def export_csv(request: HttpRequest, membership: Membership) -> HttpResponseBase:
    """What the filter asks for, newest first."""
    form = _form(request, membership)
    form.is_valid()
    events = audit_events.get_audit_events(membership.organization, form.filters)
    lines = audit_events.csv_lines(audit_events.stream_events(events))
    return _download(request, membership, lines, "text/csv; charset=utf-8", "csv")


@require_safe
@organization_page("audit.read")
def export_json_lines(request: HttpRequest, membership: Membership) -> HttpResponseBase:
    """The whole chain in its order, because a part of one proves nothing."""
    lines = audit_events.json_lines(audit_rows.export_rows(membership.organization))
    return _download(request, membership, lines, "application/x-ndjson", "jsonl")


def _download(
    request: HttpRequest,
    membership: Membership,
    lines: Iterator[str],
    content_type: str,
    suffix: str,
) -> HttpResponseBase:
    day = f"{timezone.now():%Y-%m-%d}"
    name = f"audit-{membership.organization.public_id}-{day}.{suffix}"
    return stream_lines(request, membership.organization_id, lines, content_type, name)
