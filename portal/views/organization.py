"""An organization's settings: what it is called, how it is protected, what its plan allows."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext
from django.views.decorators.http import require_http_methods

from billing import selectors as billing
from portal import second_factor
from portal.confirmations import Confirmation, ask
from portal.fields import LIMIT_NAMES
from portal.forms import SettingsForm
from portal.pages import address_of, organization_page, render_page, user_of
from portal.templatetags.portal import limits
from tenants import access, actions, selectors
from tenants.errors import AccessDenied
from tenants.models import Membership, Organization, Role
from tenants.principal import Limits

# Names of those who would be locked out; the rest are counted.
SHOWN_PEOPLE = 10


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
            return save_organization(
                request, membership, form.changes, "settings", gettext("Settings saved.")
            )
        status = 400
    context = {
        "form": form,
        "plan": organization.plan,
        "limits": limits(_limits_of(organization)),
        "model_limits": selectors.get_plan_model_limits(organization),
        "credit_left_micros": _credit_left(organization),
        "is_owner": membership.role == Role.OWNER,
    }
    return render_page(
        request,
        membership,
        "portal/settings.html",
        context,
        tab="settings",
        status=status,
    )


def _limits_of(organization: Organization) -> Limits:
    """What holds: the organization's own limits where its plan allows any, else the plan's."""
    plan = organization.plan
    held: dict[str, int | None] = {}
    for name in LIMIT_NAMES:
        own = getattr(organization, name) if plan.allows_custom_limits else None
        held[name] = getattr(plan, name) if own is None else own
    return Limits(**held)


def _credit_left(organization: Organization) -> int | None:
    """None for those who pay afterwards."""
    if not organization.is_prepaid:
        return None
    # What is owed, usage less credit, seen from the other side.
    return -billing.ledger_balance(organization)


def save_organization(
    request: HttpRequest, membership: Membership, changes: dict[str, Any], page: str, told: str
) -> HttpResponse:
    """Change what a form of this organization changes, say so, and lead back to its page."""
    if changes:
        actions.update_organization(
            membership.organization,
            changes,
            acting_user=user_of(request),
            address=address_of(request),
        )
        messages.success(request, told)
    else:
        messages.info(request, gettext("Nothing was changed."))
    return redirect(page, membership.organization.public_id)


@require_http_methods(["GET", "HEAD", "POST"])
@organization_page("organization.update")
def require_second_factor(request: HttpRequest, membership: Membership) -> HttpResponse:
    """Turn the requirement on or off, whichever it is not; an owner's decision."""
    if membership.role != Role.OWNER:
        raise AccessDenied(gettext("Only an owner decides whether members need a second factor."))
    organization = membership.organization
    back = reverse("settings", args=[organization.public_id])
    wanted = not organization.requires_mfa
    if wanted and not second_factor.is_set_up(user_of(request)):
        messages.error(
            request, gettext("Set up your own second factor first, or you would lock yourself out.")
        )
        return redirect(back)
    if request.method == "POST":
        # Sent twice, the form would undo itself; it says what it was shown for.
        if request.POST.get("requires") != str(wanted):
            return redirect(back)
        actions.update_organization(
            organization,
            {"requires_mfa": wanted},
            acting_user=user_of(request),
            address=address_of(request),
        )
        messages.success(
            request,
            gettext("A second factor is required.")
            if wanted
            else gettext("A second factor is no longer required."),
        )
        return redirect(back)
    confirmation = _requiring(organization, back) if wanted else _not_requiring(back)
    return ask(request, membership, confirmation, tab="settings")


def _requiring(organization: Organization, back: str) -> Confirmation:
    without = selectors.get_members_without_second_factor(organization)
    count = without.count()
    names = ", ".join(member.user.email for member in without[:SHOWN_PEOPLE])
    if count > SHOWN_PEOPLE:
        more = {"names": names, "count": count - SHOWN_PEOPLE}
        names = gettext("%(names)s and %(count)s more") % more
    text = (
        gettext(
            "%(names)s cannot see %(name)s until they set one up. Keys and programs go on as "
            "before."
        )
        % {"names": names, "name": organization.name}
        if count
        else gettext("Everybody here has one. Keys and programs go on as before.")
    )
    return Confirmation(
        title=gettext("Require a second factor?"),
        text=text,
        button=gettext("Require it"),
        back=back,
        facts={gettext("Members without one"): count},
        is_dangerous=False,
        hidden={"requires": "True"},
    )


def _not_requiring(back: str) -> Confirmation:
    return Confirmation(
        title=gettext("Stop requiring a second factor?"),
        text=gettext("A stolen password will be enough to get in as a member who has none."),
        button=gettext("Stop requiring it"),
        back=back,
        hidden={"requires": "False"},
    )
