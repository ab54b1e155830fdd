"""Announcements that a person has read."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_POST

from portal.pages import organization_page, user_of
from tenants import announcements
from tenants.models import Membership


@require_POST
@organization_page("usage.read")
def dismiss(request: HttpRequest, membership: Membership, number: int) -> HttpResponse:
    """Back to the page that showed it."""
    organization = membership.organization
    announcements.dismiss_announcement(organization, number, acting_user=user_of(request))
    back = request.POST.get("next", "")
    if url_has_allowed_host_and_scheme(back, allowed_hosts=None):
        return redirect(back)
    return redirect("overview", organization.public_id)
