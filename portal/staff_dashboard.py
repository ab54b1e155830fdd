"""The staff admin's first page: what the installation does, and whether it does well.

unfold calls ``add_figures`` (``UNFOLD["DASHBOARD_CALLBACK"]``). Who may not see a list in
the admin sees no figure of it here either.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone

from billing import traffic
from billing.traffic import Customer, Traffic
from inference import replicas
from inference.batches.measures import measure_open
from inference.errors import FleetUnreachable
from portal.changes import Change
from portal.charts import Series, draw_bars, draw_lines
from portal.templatetags.portal import compact, milliseconds, percent, thousands
from tenants import jobs
from tenants.models import Organization, User
from tenants.staff_access import record_list

PERIODS = {"1h": "Last hour", "24h": "24 hours", "7d": "7 days"}
DEFAULT = "24h"
LARGEST = 8
CENT = 10_000  # micro-dollars


@dataclass(frozen=True)
class LargeCustomer:
    organization: Organization
    sums: Customer
    share: float  # of all requests


def add_figures(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    assert isinstance(request.user, User)
    asked = request.GET.get("period", "")
    name = asked if asked in PERIODS else DEFAULT
    span = traffic.SPANS[name]
    length = timedelta(seconds=span.bucket_s * span.buckets)
    panels: tuple[tuple[str, Callable[[], dict[str, Any]]], ...] = (
        ("billing.view_usageevent", lambda: _traffic(request, name)),
        ("inference.view_replica", _fleet),
        ("tenants.view_job", lambda: _jobs(length)),
        ("inference.view_batch", _batches),
    )
    for permission, build in panels:
        if request.user.has_perm(permission):
            context |= build()
    return context | {
        "title": "Dashboard",
        "period": name,
        "periods": PERIODS,
        "before": "hour" if name == "1h" else PERIODS[name],
    }


def _traffic(request: HttpRequest, name: str) -> dict[str, Any]:
    found = traffic.get_traffic(traffic.SPANS[name], timezone.now())
    requests, failed = found.total("requests"), found.total("failed")
    waits = {share: traffic.wait_ms(found.digests, share) for share in (0.5, 0.95)}
    before = {share: traffic.wait_ms(found.before, share) for share in (0.5, 0.95)}
    return {
        "requests": requests,
        "requests_change": Change(requests, found.total_before("requests"), ""),
        "requests_spark": [each.requests for each in found.digests],
        "errors": percent(failed / requests if requests else 0.0),
        "errors_change": Change(
            _basis_points(failed, requests),
            _basis_points(found.total_before("failed"), found.total_before("requests")),
            "bad",
        ),
        "wait_p50": milliseconds(waits[0.5]),
        "wait_p95": milliseconds(waits[0.95]),
        "wait_p50_change": _change(waits[0.5], before[0.5]),
        "wait_p95_change": _change(waits[0.95], before[0.95]),
        "tokens_per_s": _rate(found),
        "tokens_change": Change(
            found.total("completion_tokens"), found.total_before("completion_tokens"), ""
        ),
        "cost": found.total("cost_micros") // CENT * CENT,
        "cost_change": Change(
            found.total("cost_micros"), found.total_before("cost_micros"), "good"
        ),
        **_charts(found, name),
        "largest": _largest(request, found, requests),
    }


def _basis_points(part: int, whole: int) -> int:
    return part * 10_000 // whole if whole else 0


def _change(now: int | None, before: int | None) -> Change | None:
    return None if now is None or before is None else Change(now, before, "bad")


def _rate(found: Traffic) -> str:
    return thousands(round(found.total("completion_tokens") / max(1.0, found.seconds)))


def _charts(found: Traffic, name: str) -> dict[str, Any]:
    form = "%H:%M" if name != "7d" else "%-d %b, %H:%M"
    labels = [timezone.localtime(start).strftime(form) for start in found.starts]
    rows = found.digests
    return {
        "requests_chart": draw_bars(
            labels,
            [
                Series("Served", [each.requests - each.failed for each in rows]),
                Series("Failed", [each.failed for each in rows]),
            ],
            write=thousands,
            write_scale=compact,
        ),
        "waits_chart": draw_lines(
            labels,
            [
                Series(label, [traffic.wait_ms([each], share) for each in rows])
                for label, share in (("p50", 0.5), ("p95", 0.95))
            ],
            write=milliseconds,
        ),
        "tokens_chart": draw_bars(
            labels,
            [
                Series("Input", [each.prompt_tokens for each in rows]),
                Series("Output", [each.completion_tokens for each in rows]),
            ],
            write=thousands,
            write_scale=compact,
        ),
    }


def _largest(request: HttpRequest, found: Traffic, requests: int) -> list[LargeCustomer] | None:
    """None for whoever may not see organizations; else a look at a list of them, on record."""
    if not request.user.has_perm("tenants.view_organization"):  # type: ignore[union-attr]
        return None
    largest = found.largest(LARGEST)
    record_list(request, Organization)
    known = Organization.objects.in_bulk([each.organization for each in largest])
    return [
        LargeCustomer(known[each.organization], each, each.requests / max(1, requests))
        for each in largest
        if each.organization in known
    ]


def _fleet() -> dict[str, Any]:
    try:
        live = replicas.get_live_replicas()
    except FleetUnreachable:
        return {"is_unreadable": True, "fleet_url": reverse("admin:inference_replica_fleet")}
    totals = replicas.totals_of(live)
    return {
        "fleet": totals,
        "ready_note": f"of {totals.replicas:,}, {totals.draining:,} draining",
        "running_note": f"{totals.waiting:,} waiting, {totals.places:,} places",
        "replicas": live,
        "fleet_url": reverse("admin:inference_replica_fleet"),
    }


def _batches() -> dict[str, Any]:
    found = measure_open()
    note = f"{found.lines:,} lines to run, {found.validating:,} batches to validate"
    return {"batches": found, "batches_note": note}


def _jobs(length: timedelta) -> dict[str, Any]:
    now = timezone.now()
    ended, before = (
        jobs.count_endings(now - (at + 1) * length, now - at * length) for at in (0, 1)
    )
    measured = jobs.measure()
    waiting = sum(count for (_, state), count in measured.counts.items() if state == "queued")
    return {
        "jobs_failed": ended.failed,
        "jobs_change": Change(ended.failed, before.failed, "bad"),
        "jobs_note": f"{ended.finished:,} ended, {waiting:,} waiting",
        "jobs_url": f"{reverse('admin:tenants_job_changelist')}?state__exact=failed",
    }
