"""What was used and what it cost: by day, by model, and the last requests' metadata."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.core.paginator import Page
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.functional import cached_property
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_safe

from billing import selectors as billing
from billing.models import UsageEvent
from portal.charts import Chart, Series, draw_bars
from portal.pages import organization_page, render_page
from portal.periods import LABELS, Period, read_period
from portal.tables import Column, Table
from portal.templatetags.portal import compact, thousands
from tenants.models import Membership, Organization


class RequestTable(Table):
    """Requests of a period; their number is known from the report beside them."""

    columns = (
        Column("request", gettext_lazy("Request"), is_primary=True),
        Column("model", gettext_lazy("Model"), is_silent=True),
        Column("time", gettext_lazy("Time"), ("started_at",), True, is_silent=True, style="soft"),
        Column("status", gettext_lazy("Status"), is_silent=True),
        Column("input", gettext_lazy("Input"), is_number=True),
        Column("output", gettext_lazy("Output"), is_number=True),
        Column("duration", gettext_lazy("Duration"), is_number=True),
        Column("cost", gettext_lazy("Cost"), is_number=True),
    )
    sort = "-time"
    page_size = 25

    def __init__(
        self, request: HttpRequest, organization: Organization, period: Period, count: int
    ):
        super().__init__(request)
        self.organization, self.period, self.count = organization, period, count

    def get_rows(self, chosen: Mapping[str, Any]) -> QuerySet[UsageEvent]:
        return billing.recent_requests(self.organization, self.period.start, self.period.end)

    @cached_property
    def page(self) -> Page:
        return self.paged(count=self.count)


@require_safe
@organization_page("usage.read")
def usage(request: HttpRequest, membership: Membership) -> HttpResponse:
    organization = membership.organization
    period = read_period(request.GET.get("period", ""), timezone.now())
    report = billing.usage_report(organization, period.start, period.end)
    context = {
        "period": period,
        "periods": LABELS,
        "summary": report.summary,
        "models": report.models,
        "cached_note": _cached(report.summary.cached_tokens),
        "chart": _chart(report.days),
        "requests": RequestTable(request, organization, period, report.summary.requests),
    }
    return render_page(request, membership, "portal/usage.html", context, tab="usage")


def _chart(days: list[billing.DayUsage]) -> Chart:
    return draw_bars(
        [f"{day.day.day} {day.day:%b}" for day in days],
        [
            Series(_("Input tokens"), [day.prompt_tokens for day in days]),
            Series(_("Output tokens"), [day.completion_tokens for day in days]),
        ],
        write=thousands,
        write_scale=compact,
    )


def _cached(tokens: int) -> str:
    return _("%(count)s from a cache") % {"count": thousands(tokens)} if tokens else ""
