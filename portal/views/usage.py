"""What was used and what it cost: by day, by model, and the last requests' metadata."""

from __future__ import annotations

from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.http import require_safe

from billing import selectors as billing
from portal.charts import Column, draw_bars
from portal.pages import organization_page, render_page
from portal.periods import LABELS, read_period
from tenants.models import Membership

PAGE_SIZE = 25


@require_safe
@organization_page("usage.read")
def usage(request: HttpRequest, membership: Membership) -> HttpResponse:
    organization = membership.organization
    period = read_period(request.GET.get("period", ""), timezone.now())
    report = billing.usage_report(organization, period.start, period.end)
    requests = Paginator(billing.recent_requests(organization, period.start, period.end), PAGE_SIZE)
    requests.__dict__["count"] = report.summary.requests  # counted already
    context = {
        "period": period,
        "periods": LABELS,
        "summary": report.summary,
        "models": report.models,
        "days": report.days,
        "chart": draw_bars([_column(day) for day in report.days]),
        "page": requests.get_page(request.GET.get("page")),
    }
    return render_page(request, membership, "portal/usage.html", context, tab="usage")


def _column(day: billing.DayUsage) -> Column:
    return Column(f"{day.day.day} {day.day:%b}", day.prompt_tokens, day.completion_tokens)
