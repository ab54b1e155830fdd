"""The way in: where ``/`` leads, the overview, another organization, the theme."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.http import (
    require_http_methods,
    require_POST,
    require_safe,
)

from billing import analysis, limit_use
from billing.analysis import Asked
from inference import selectors as inference
from portal import usage_charts as charts
from portal.context import THEMES
from portal.form_ids import new_key_form_id
from portal.forms import OrganizationForm
from portal.key_forms import KeyForm
from portal.key_status import status_of
from portal.limit_words import meters_of
from portal.live import panel_of
from portal.pages import (
    LAST_ORGANIZATION,
    address_of,
    organization_page,
    render_page,
    user_of,
)
from portal.periods import read_period
from portal.reach import reach_of
from tenants import access, actions, selectors
from tenants.models import Membership, Organization

A_YEAR_S = 365 * 24 * 3600
RECENT_KEYS = 5


@require_safe
@never_cache
@login_required
def home(request: HttpRequest) -> HttpResponse:
    """To the organization looked at last, or the oldest, or the page that makes one."""
    ids = [m.organization.public_id for m in access.get_memberships(user_of(request))]
    if not ids:
        return redirect("organization_create")
    last = request.session.get(LAST_ORGANIZATION)
    return redirect("overview", last if last in ids else ids[0])


@require_safe
@organization_page("usage.read")
def overview(request: HttpRequest, membership: Membership) -> HttpResponse:
    """The first steps until there is a key, afterwards what happens: figures, requests, limits."""
    organization = membership.organization
    report = limit_use.get_limit_report(organization, with_parts=False)
    context: dict[str, Any] = {
        "model": inference.get_example_chat_model(),
        "has_keys": selectors.has_api_keys(organization),
        "report": report,
        "whole": meters_of(report.organization),
    }
    if context["has_keys"]:
        context |= _these_days(organization)
        context |= {"live": panel_of(organization), "keys": _recent_keys(membership)}
    else:
        context["form"] = KeyForm(
            models=[],
            projects=selectors.get_projects(organization),
            initial={
                "name": "My first key",
                "form_id": new_key_form_id(user_of(request), organization),
            },
        )
    return render_page(request, membership, "portal/overview.html", context, tab="overview")


def _these_days(organization: Organization) -> dict[str, Any]:
    """The usual period beside the one before, and its requests day by day. A month of a big
    organization takes too long for the page that everybody lands on."""
    period = read_period("", timezone.now())
    before = period.before()
    asked = Asked(organization, period.start, period.end)
    now = analysis.analyse(asked, "day", "model")
    earlier = analysis.total_of(asked.moved(before.start, before.end))
    wait = analysis.first_token_waits(asked)[None]
    return {
        "tiles": charts.tiles_of(now, earlier, wait, period),
        "chart": charts.draw_slices(now, charts.METRICS["requests"], "model", "day", {}),
    }


def _recent_keys(membership: Membership) -> list[dict[str, Any]]:
    """Of those that this member may see, the last made."""
    reach = reach_of(membership, "key.read")
    if not reach:
        return []
    now = timezone.now()
    keys = selectors.get_api_keys(membership.organization, projects=reach.only)
    return [{"key": key, "status": status_of(key, now)} for key in keys[:RECENT_KEYS]]


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
@login_required
def create_organization(request: HttpRequest) -> HttpResponse:
    form = OrganizationForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        organization = actions.create_organization(
            form.cleaned_data["name"],
            acting_user=user_of(request),
            address=address_of(request),
        )
        return redirect("overview", organization.public_id)
    return render(
        request,
        "portal/organization_create.html",
        {"form": form, "memberships": access.get_memberships(user_of(request))},
    )


@require_POST
def choose_theme(request: HttpRequest) -> HttpResponse:
    """Remember light or dark in a cookie; anything else returns to the system's choice."""
    back = request.POST.get("next", "/")
    if not url_has_allowed_host_and_scheme(
        back, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    ):
        back = "/"
    response = redirect(back)
    theme = request.POST.get("theme")
    if theme in THEMES:
        response.set_cookie(
            "theme",
            theme,
            max_age=A_YEAR_S,
            samesite="Lax",
            secure=settings.SESSION_COOKIE_SECURE,
        )
    else:
        response.delete_cookie("theme", samesite="Lax")
    return response
