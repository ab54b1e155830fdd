"""How close an organization, its projects and its keys are to their limits, at this moment."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from billing import limit_use
from portal.limit_words import meters_of, parts_of
from portal.pages import organization_page, render_page
from tenants.models import Membership


@require_safe
@organization_page("usage.read")
def limits(request: HttpRequest, membership: Membership) -> HttpResponse:
    report = limit_use.get_limit_report(membership.organization)
    context = {
        "report": report,
        "whole": meters_of(report.organization),
        "parts": parts_of(report),
    }
    return render_page(request, membership, "portal/limits.html", context, tab="usage")
