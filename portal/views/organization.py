"""An organization's settings, and who belongs to it."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_http_methods

from portal.forms import SettingsForm
from portal.pages import address_of, organization_page, render_page, user_of
from tenants import access, actions, selectors
from tenants.models import Membership


@require_http_methods(["GET", "HEAD", "POST"])
@organization_page("usage.read")
def organization_settings(request: HttpRequest, membership: Membership) -> HttpResponse:
    """Every member sees the settings; owner and admin change them."""
    organization = membership.organization
    status = 200
    form = SettingsForm(organization=organization)
    if request.method == "POST":
        access.check_permission(membership, "organization.update")
        form = SettingsForm(request.POST, organization=organization)
        if form.is_valid():
            return _save(request, membership, form)
        status = 400
    context = {"form": form, "members": selectors.get_members(organization)}
    return render_page(
        request,
        membership,
        "portal/settings.html",
        context,
        tab="settings",
        status=status,
    )


def _save(request: HttpRequest, membership: Membership, form: SettingsForm) -> HttpResponse:
    if form.changes:
        actions.update_organization(
            membership.organization,
            form.changes,
            acting_user=user_of(request),
            address=address_of(request),
        )
        messages.success(request, "Settings saved.")
    else:
        messages.info(request, "Nothing was changed.")
    return redirect("settings", membership.organization.public_id)
