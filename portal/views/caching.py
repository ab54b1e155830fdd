"""Answers that are given twice: an organization's terms, what they bring and could bring."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext
from django.views.decorators.http import require_http_methods
from redis.exceptions import RedisError

from inference import actions as inference
from inference.caching import CachingReport, get_caching_report
from portal.caching_forms import CachingForm
from portal.confirmations import Confirmation, ask
from portal.pages import address_of, organization_page, render_page, user_of
from portal.views.organization import save_organization
from tenants.models import Membership, Organization


@require_http_methods(["GET", "HEAD", "POST"])
@organization_page("organization.update")
def caching(request: HttpRequest, membership: Membership) -> HttpResponse:
    organization, status = membership.organization, 200
    form = CachingForm(organization=organization)
    if request.method == "POST":
        form = CachingForm(request.POST, organization=organization)
        if form.is_valid():
            return save_organization(
                request, membership, form.changes, "caching", gettext("Caching changed.")
            )
        status = 400
    context = {"form": form, "report": _report(organization)}
    template = "portal/caching.html"
    return render_page(request, membership, template, context, tab="settings", status=status)


def _report(organization: Organization) -> CachingReport | None:
    """None while Redis is away: the page stays usable."""
    try:
        return get_caching_report(organization)
    except RedisError:
        return None


@require_http_methods(["GET", "HEAD", "POST"])
@organization_page("organization.update")
def forget_answers(request: HttpRequest, membership: Membership) -> HttpResponse:
    """Make every kept answer void, after asking."""
    organization = membership.organization
    back = reverse("caching", args=[organization.public_id])
    if request.method != "POST":
        confirmation = Confirmation(
            title=gettext("Forget cached answers?"),
            text=gettext(
                "Every answer kept for %(name)s, exact and semantic, is void from now "
                "on, those being made included. The next requests run and are billed in "
                "full."
            )
            % {"name": organization.name},
            button=gettext("Forget them"),
            back=back,
        )
        return ask(request, membership, confirmation, tab="settings")
    try:
        inference.forget_answers(
            organization, acting_user=user_of(request), address=address_of(request)
        )
    except RedisError:
        messages.error(
            request, gettext("The cache does not answer; nothing was forgotten. Try again.")
        )
    else:
        messages.success(request, gettext("Cached answers are forgotten."))
    return redirect(back)
