"""What was used and what it cost: over time, by what it was used for, beside the time before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.functional import Promise
from django.views.decorators.http import require_safe

from billing import analysis, slices
from billing.analysis import Analysis, Asked, Dimension, Step
from portal import usage_charts as charts
from portal.charts import Chart
from portal.live import panel_of
from portal.pages import organization_page, render_page
from portal.periods import LABELS, read_period
from portal.usage_charts import DIMENSIONS, METRICS, WAIT
from portal.usage_forms import UsageFilter
from tenants.models import Membership

TOTAL = "total"  # in the address, of what is not split


@dataclass(frozen=True)
class Way:
    """One of a few choices of the address."""

    label: str | Promise
    url: str
    is_current: bool


class UsageView:
    """One state of the page's address: period, step, metric, dimension and filter."""

    def __init__(self, request: HttpRequest, membership: Membership):
        self.query = request.GET
        self.form = UsageFilter(request.GET, organization=membership.organization)
        self.organization = membership.organization
        self.period = read_period(self.query.get("period", ""), timezone.now())
        self.step = cast(Step, self.period.step(self.query.get("step", "")))
        asked = self.query.get("metric", "")
        self.metric_name = asked if asked in METRICS else "requests"
        self.metric = METRICS[self.metric_name]
        self.by: Dimension = _dimension(self.query.get("by", ""))
        self.asked = self.form.asked(self.period)

    @cached_property
    def now(self) -> Analysis:
        return analysis.analyse(self.asked, self.step, self.by, self.metric.measure)

    @cached_property
    def asked_before(self) -> Asked:
        before = self.period.before()
        return self.asked.moved(before.start, before.end)

    @cached_property
    def names(self) -> dict[str, slices.Named]:
        keys = (each.key for each in self.now.slices)
        return slices.name_slices(self.organization, self.by, keys)

    def chart(self) -> Chart:
        if self.metric_name == WAIT:
            waits = analysis.first_token_waits(self.asked, self.step)
            return charts.draw_waits(self.now.buckets, waits, self.step)
        if not self.by:
            before = analysis.analyse(self.asked_before, self.step)
            return charts.draw_comparison(self.now, before, self.metric, self.step)
        return charts.draw_slices(self.now, self.metric, self.by, self.step, self.names)

    def tiles(self) -> list[charts.Tile]:
        wait = analysis.first_token_waits(self.asked)[None]
        return charts.tiles_of(self.now, analysis.total_of(self.asked_before), wait, self.period)

    def lines(self) -> list[charts.SliceLine]:
        if not self.by:
            return []
        return charts.slice_lines(
            self.now, self.by, self.names, lambda name: self.address(**{self.by: name})
        )

    def ways(self, name: str, labels: Mapping[str, str | Promise], current: str) -> list[Way]:
        return [
            Way(label, self.address(**{name: value}), value == current)
            for value, label in labels.items()
        ]

    def address(self, **changes: str) -> str:
        """This address with some of it changed; what is empty is left out."""
        query = self.query.copy()
        for name, value in changes.items():
            query.pop(name, None)
            if value:
                query[name] = value
        return f"?{query.urlencode()}"

    def kept(self, names: Iterable[str]) -> list[tuple[str, str]]:
        """Of the address what a form of other fields carries along."""
        return [(name, self.query[name]) for name in names if self.query.get(name)]


def _dimension(asked: str) -> Dimension:
    if asked == TOTAL:
        return ""
    return next((name for name in DIMENSIONS if name and name == asked), "model")


STEPS: dict[str, str | Promise] = {"day": charts.BY_DAY, "hour": charts.BY_HOUR}


@require_safe
@organization_page("usage.read")
def usage(request: HttpRequest, membership: Membership) -> HttpResponse:
    view = UsageView(request, membership)
    dimensions: dict[str, str | Promise] = {
        name or TOTAL: label for name, label in DIMENSIONS.items()
    }
    context: dict[str, Any] = {
        "view": view,
        "form": view.form,
        "kept": view.kept(("period", "step", "metric", "by")),
        "is_filtered": bool(view.form.chosen),
        "clear": view.address(**dict.fromkeys(view.form.fields, "")),
        "periods": view.ways("period", LABELS, view.period.name),
        "steps": view.ways("step", {name: STEPS[name] for name in view.period.steps}, view.step),
        "metrics": view.ways(
            "metric", {name: each.label for name, each in METRICS.items()}, view.metric_name
        ),
        "dimensions": view.ways("by", dimensions, view.by or TOTAL),
        "tiles": view.tiles(),
        "chart": view.chart(),
        "lines": view.lines(),
        "heading": charts.HEADINGS.get(view.by, ""),
        "live": panel_of(membership.organization),
    }
    return render_page(request, membership, "portal/usage.html", context, tab="usage")
