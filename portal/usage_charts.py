"""What a usage page draws and writes of an analysis: metrics, charts, tiles, the table's lines.

No request and no database here: an ``Analysis`` comes in, what templates show goes out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.utils.formats import date_format
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from billing.analysis import DRAWN_SLICES, Analysis, Dimension, Measure, Step, Sums, Wait
from billing.slices import Named
from portal.changes import Change
from portal.charts import Chart, Series, draw_bars, draw_lines
from portal.periods import Period
from portal.templatetags.portal import compact, micros, percent, thousands
from portal.usage_forms import WITHOUT_KEY

Write = Callable[[int], str]


@dataclass(frozen=True)
class Metric:
    label: str | Promise
    measure: Measure
    more_is: str = ""  # as in Change
    write: Write = thousands
    write_scale: Write = compact


def _milliseconds(amount: int) -> str:
    return f"{thousands(amount)} ms"


WAIT = "wait"
METRICS: dict[str, Metric] = {
    "requests": Metric(gettext_lazy("Requests"), "requests"),
    "input": Metric(gettext_lazy("Input tokens"), "prompt_tokens"),
    "output": Metric(gettext_lazy("Output tokens"), "completion_tokens"),
    "cached": Metric(gettext_lazy("Cached tokens"), "cached_tokens", "good"),
    "cost": Metric(gettext_lazy("Cost"), "cost_micros", write=micros, write_scale=micros),
    "errors": Metric(gettext_lazy("Errors"), "errors", "bad"),
    # The slices beside it are ranked by their requests.
    WAIT: Metric(
        gettext_lazy("First token"), "requests", write=_milliseconds, write_scale=_milliseconds
    ),
}
DIMENSIONS: dict[Dimension, str | Promise] = {
    "model": gettext_lazy("Model"),
    "project": gettext_lazy("Project"),
    "key": gettext_lazy("API key"),
    "user": gettext_lazy("User"),
    "": gettext_lazy("Total"),
}
HEADINGS: dict[Dimension, str | Promise] = {
    "model": gettext_lazy("By model"),
    "project": gettext_lazy("By project"),
    "key": gettext_lazy("By API key"),
    "user": gettext_lazy("By user"),
}
BY_DAY, BY_HOUR = gettext_lazy("By day"), gettext_lazy("By hour")
# What a slice without a key (in Analysis) is, and one whose row is gone.
_NOBODY = {"key": gettext_lazy("No key: in the portal"), "user": gettext_lazy("In the portal")}


@dataclass(frozen=True)
class Tile:
    label: str
    figure: str
    change: Change | None = None
    note: str = ""
    spark: Sequence[int] = ()


@dataclass(frozen=True)
class SliceLine:
    """A row of the table beside the chart; ``url`` leads to the same page of this slice alone."""

    label: str
    note: str
    url: str
    sums: Sums

    @property
    def error_share(self) -> float:
        return self.sums.errors / self.sums.requests if self.sums.requests else 0.0


def label_of(key: str, by: Dimension, names: Mapping[str, Named]) -> Named:
    if by == "model":
        return Named(key, key)
    if key in names:
        return names[key]
    if not key:
        return Named(str(_NOBODY.get(by, "–")))
    return Named(_("Deleted"), note=key.lstrip("-"))


def slice_lines(
    analysis: Analysis,
    by: Dimension,
    names: Mapping[str, Named],
    address_of: Callable[[str], str],
) -> list[SliceLine]:
    """``address_of`` gives the page of a slice, by what the filter's form names it by."""
    lines = []
    for each in analysis.slices:
        named = label_of(each.key, by, names)
        name = named.public_id or (WITHOUT_KEY if by == "user" and not each.key else "")
        lines.append(
            SliceLine(named.label, named.note, address_of(name) if name else "", each.sums)
        )
    if analysis.rest.requests:
        lines.append(SliceLine(_("All others"), "", "", analysis.rest))
    return lines


def draw_slices(
    analysis: Analysis, metric: Metric, by: Dimension, step: Step, names: Mapping[str, Named]
) -> Chart:
    """Stacked columns: the largest slices, and on top of them the rest together."""
    series = [
        Series(label_of(each.key, by, names).label, _amounts(analysis.row(each.key), metric))
        for each in analysis.slices[:DRAWN_SLICES]
    ]
    if None in analysis.cells:
        series.append(Series(_("All others"), _amounts(analysis.row(None), metric)))
    return draw_bars(
        bucket_labels(analysis.buckets, step),
        series,
        write=metric.write,
        write_scale=metric.write_scale,
    )


def draw_comparison(now: Analysis, before: Analysis, metric: Metric, step: Step) -> Chart:
    """Two lines: this period and, bucket by bucket, the one before."""
    count = len(now.buckets)
    earlier: list[int | None] = [*_amounts(before.by_time(), metric)]
    earlier = earlier[:count] + [None] * (count - len(earlier))
    return draw_lines(
        bucket_labels(now.buckets, step),
        [
            Series(_("This period"), _amounts(now.by_time(), metric)),
            Series(_("The one before"), earlier),
        ],
        write=metric.write,
        write_scale=metric.write_scale,
    )


def draw_waits(
    buckets: Sequence[datetime], waits: Mapping[datetime | None, Wait], step: Step
) -> Chart:
    nothing = Wait()
    found = [waits.get(bucket, nothing) for bucket in buckets]
    metric = METRICS[WAIT]
    return draw_lines(
        bucket_labels(buckets, step),
        [
            Series(_("Median"), [wait.median_ms for wait in found]),
            Series(_("95th percentile"), [wait.p95_ms for wait in found]),
        ],
        write=metric.write,
        write_scale=metric.write_scale,
    )


def bucket_labels(buckets: Sequence[datetime], step: Step) -> list[str]:
    """Days as ``21 Nov``; hours as ``14:00``, with their day where there is more than one."""
    is_long = len(buckets) > 26
    pattern = "j M" if step == "day" else "j M, H:i" if is_long else "H:i"
    return [date_format(bucket, pattern) for bucket in buckets]


def tiles_of(now: Analysis, before: Sums, wait: Wait, period: Period) -> list[Tile]:
    # The last bucket has only begun: its end would be a fall.
    total, rows = now.total, now.by_time()[:-1]

    def tile(name: str, note: str = "") -> Tile:
        metric = METRICS[name]
        amount, earlier = getattr(total, metric.measure), getattr(before, metric.measure)
        change = Change(amount, earlier, metric.more_is, period.than)
        has_any = bool(amount or earlier)
        spark = _amounts(rows, metric)
        return Tile(
            str(metric.label), metric.write(amount), change if has_any else None, note, spark
        )

    cached = _("%(count)s from a cache") % {"count": thousands(total.cached_tokens)}
    share = total.errors / total.requests if total.requests else 0.0
    return [
        tile("requests"),
        tile("input", cached if total.cached_tokens else ""),
        tile("output"),
        tile("cost"),
        tile("errors", _("%(share)s of all") % {"share": percent(share)} if total.errors else ""),
        _wait_tile(wait),
    ]


def _wait_tile(wait: Wait) -> Tile:
    label = _("Time to first token")
    if wait.median_ms is None or wait.p95_ms is None:
        return Tile(label, "–")
    slow = _("median; 95 %% within %(most)s") % {"most": _milliseconds(wait.p95_ms)}
    return Tile(label, _milliseconds(wait.median_ms), note=slow)


def _amounts(rows: Sequence[Sums], metric: Metric) -> list[int]:
    return [getattr(sums, metric.measure) for sums in rows]
