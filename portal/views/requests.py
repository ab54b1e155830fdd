"""Single requests: listed and searched, one in full, all as a file. Metadata, never what was said."""

from __future__ import annotations

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from billing import analysis, exports, selectors
from billing.models import UsageEvent
from portal.cursors import MOST_IDENTIFIER, neighbours, page_of
from portal.live import panel_of
from portal.pages import organization_page, render_page
from portal.periods import LABELS, Period, read_period
from portal.streams import stream_lines
from portal.templatetags.portal import thousands
from portal.usage_forms import RequestFilter
from portal.views.usage import Way
from tenants.models import Membership
from tenants.pages import Listed

PAGE_SIZE = 50


@require_safe
@organization_page("usage.read")
def list_requests(request: HttpRequest, membership: Membership) -> HttpResponse:
    form, period = _asked(request, membership)
    is_asked_well = form.is_valid()
    if "q" in form.chosen and (found := _find(membership, form.chosen["q"])):
        return redirect("request", membership.organization.public_id, found.request_id)
    listed = _page(request, form, period)
    context = {
        "form": form,
        "requests": [] if "q" in form.chosen else listed.rows,
        "period": period,
        "periods": _periods(request, period),
        "is_filtered": bool(form.chosen),
        "clear": f"?period={period.name}",
        "query": _query(request, without=("after", "before")),
        **neighbours(request, listed),
    }
    status = 200 if is_asked_well else 400
    return render_page(
        request, membership, "portal/requests.html", context, tab="usage", status=status
    )


@require_safe
@organization_page("usage.read")
def show_request(request: HttpRequest, membership: Membership, request_id: str) -> HttpResponse:
    event = _find(membership, request_id)
    if event is None:
        raise Http404
    cached = _("%(count)s from a cache") % {"count": thousands(event.cached_tokens)}
    context = {
        "event": event,
        "cached_note": cached if event.cached_tokens else "",
        "first_token": _milliseconds(event.time_to_first_token_ms),
        "duration": _milliseconds(event.duration_ms),
        "engine": _milliseconds(round(event.engine_us / 1000)),
        "yes_no": _("Yes,No"),
        "nothing_found": _("Nothing found"),
    }
    return render_page(request, membership, "portal/request.html", context, tab="usage")


@require_safe
@organization_page("usage.read")
def export_csv(request: HttpRequest, membership: Membership) -> HttpResponseBase:
    """What the filter asks for, newest first, read while the client does."""
    form, period = _asked(request, membership)
    events = selectors.with_names(analysis.select_events(form.asked(period)))
    organization = membership.organization
    name = f"requests-{organization.public_id}-{timezone.now():%Y-%m-%d}.csv"
    lines = exports.csv_lines(exports.in_pages(events))
    return stream_lines(request, organization.pk, lines, "text/csv; charset=utf-8", name)


@require_safe
@organization_page("usage.read")
def live_panel(request: HttpRequest, membership: Membership) -> HttpResponse:
    """The panel alone, for whoever missed something; its socket has the same address."""
    context = {"live": panel_of(membership.organization)}
    return render_page(request, membership, "portal/live.html", context, tab="usage")


def _milliseconds(amount: int | None) -> str:
    return "–" if amount is None else f"{thousands(amount)} ms"


def _asked(request: HttpRequest, membership: Membership) -> tuple[RequestFilter, Period]:
    form = RequestFilter(request.GET, organization=membership.organization)
    return form, read_period(request.GET.get("period", ""), timezone.now())


def _find(membership: Membership, request_id: str) -> UsageEvent | None:
    if "\0" in request_id or len(request_id) > MOST_IDENTIFIER:
        return None
    return selectors.get_request(membership.organization, request_id)


def _page(request: HttpRequest, form: RequestFilter, period: Period) -> Listed[UsageEvent]:
    asked = form.asked(period)
    return page_of(
        request,
        selectors.with_names(analysis.select_events(asked)),
        among=selectors.recent_requests(asked.organization),
        size=PAGE_SIZE,
        key=("started_at", "pk"),
        name="request_id",
    )


def _periods(request: HttpRequest, period: Period) -> list[Way]:
    rest = _query(request, without=("period", "after", "before"))
    return [Way(label, f"?{rest}period={name}", name == period.name)
            for name, label in LABELS.items()]  # fmt: skip


def _query(request: HttpRequest, *, without: tuple[str, ...]) -> str:
    """The address without these, ready to be added to."""
    query = request.GET.copy()
    for name in without:
        query.pop(name, None)
    return f"{query.urlencode()}&" if query else ""
