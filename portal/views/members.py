"""Members of an organization: listed, their roles changed, removed; leaving."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext, gettext_lazy, ngettext
from django.views.decorators.http import require_http_methods, require_safe

from portal.confirmations import Confirmation, ask, refuse
from portal.pages import address_of, organization_page, render_page, user_of
from portal.people_forms import MemberFilter, MemberRoleForm
from portal.room_words import in_words
from portal.tables import Column, Table
from portal.templatetags.portal import moment
from tenants import access, actions, permissions, selectors
from tenants.errors import InvalidInput
from tenants.models import Invitation, Membership, Organization, Role

SHOWN_INVITATIONS = 50


class MemberTable(Table):
    columns = (
        Column("person", gettext_lazy("Person"), ("user__email",), is_primary=True),
        Column("role", gettext_lazy("Role"), ("role",)),
        Column("factor", gettext_lazy("Second factor"), ("has_second_factor",)),
        Column("joined", gettext_lazy("Joined"), ("created_at",), True, style="soft"),
    )
    sort = "joined"

    def __init__(self, request: HttpRequest, organization: Organization):
        super().__init__(request, form=MemberFilter(request.GET))
        self.organization = organization

    def get_rows(self, chosen: Mapping[str, Any]) -> QuerySet[Membership]:
        if search := chosen.get("q"):
            return selectors.find_members(self.organization, search)
        return selectors.get_members(self.organization)


class InvitationTable(Table):
    """Invitations that nobody has taken up yet."""

    columns = (
        Column("email", gettext_lazy("E-mail"), ("email",), is_primary=True),
        Column("role", gettext_lazy("Role"), ("role",)),
        Column("by", gettext_lazy("Invited by"), style="soft person"),
        Column("expires", gettext_lazy("Expires"), ("expires_at",)),
        Column("action", gettext_lazy("Action"), is_hidden=True, is_number=True),
    )
    sort = "-expires"
    page_size = SHOWN_INVITATIONS

    def __init__(self, request: HttpRequest, organization: Organization):
        super().__init__(request, prefix="invitations")
        self.organization = organization

    def get_rows(self, chosen: Mapping[str, Any]) -> QuerySet[Invitation]:
        return selectors.get_open_invitations(self.organization)


@require_safe
@organization_page("member.read")
def list_members(request: HttpRequest, membership: Membership) -> HttpResponse:
    organization = membership.organization
    may_manage = access.is_allowed(membership, "member.manage")
    context = {
        "members": MemberTable(request, organization),
        "may_manage": may_manage,
        # Whom else an organization asks is for those who ask.
        "invitations": InvitationTable(request, organization) if may_manage else None,
    }
    return render_page(request, membership, "portal/members.html", context, tab="members")


@require_http_methods(["GET", "HEAD", "POST"])
@organization_page("member.read")
def show_member(request: HttpRequest, membership: Membership, user_id: str) -> HttpResponse:
    """What a person may do here and by what; the form changes their role."""
    organization = membership.organization
    member = access.access_member(organization, user_id)
    roles = _roles_to_give(membership, member)
    may_change = bool(roles)
    form = MemberRoleForm(
        request.POST if request.method == "POST" else None,
        roles=roles,
        initial={"role": member.role},
    )
    if request.method == "POST":
        access.check_permission(membership, "member.manage")
        # Asked for by hand: the room refuses what was not offered, as 403.
        role = request.POST.get("role", "")
        if role in Role.values and role not in roles:
            access.actor_of(membership).check_gives(
                permissions.OF_ROLE[member.role] | permissions.OF_ROLE[role]
            )
        if form.is_valid():
            return _change_role(request, membership, member, form.cleaned_data["role"])
    context = {
        "member": member,
        "form": form,
        "may_change": may_change,
        "may_remove": _may_remove(membership, member),
        "may_audit": access.is_allowed(membership, "audit.read"),
        "is_self": member.user_id == membership.user_id,
        "groups": selectors.get_groups_of(organization, member.user),
        "assignments": selectors.get_role_assignments(organization, user=member.user),
        "projects": selectors.get_projects_of(organization, member.user),
    }
    status = 400 if form.errors else 200
    return render_page(
        request, membership, "portal/member.html", context, tab="members", status=status
    )


def _change_role(
    request: HttpRequest, membership: Membership, member: Membership, role: str
) -> HttpResponse:
    organization_id = membership.organization.public_id
    if role == member.role:
        messages.info(request, gettext("Nothing was changed."))
        return redirect("member", organization_id, member.user.public_id)
    try:
        member = actions.change_member_role(
            member, role, actor=access.actor_of(membership), address=address_of(request)
        )
    except InvalidInput as error:
        return refuse(request, error, "member", organization_id, member.user.public_id)
    messages.success(
        request,
        gettext("%(email)s is %(role)s now.")
        % {"email": member.user.email, "role": in_words(member.get_role_display())},
    )
    return redirect("members", organization_id)


def roles_within(membership: Membership) -> list[str]:
    """The roles that this member may give: none that may more than they may."""
    held = access.actor_of(membership).everywhere
    return [role for role in Role.values if permissions.OF_ROLE[role] <= held]


def _roles_to_give(membership: Membership, member: Membership) -> list[str]:
    """None where the role that the member has is out of reach as well."""
    if not access.is_allowed(membership, "member.manage"):
        return []
    roles = roles_within(membership)
    return roles if member.role in roles else []


def _may_remove(membership: Membership, member: Membership) -> bool:
    return member.user_id != membership.user_id and bool(_roles_to_give(membership, member))


@require_http_methods(["GET", "HEAD", "POST"])
@organization_page("member.manage")
def remove_member(request: HttpRequest, membership: Membership, user_id: str) -> HttpResponse:
    organization = membership.organization
    member = access.access_member(organization, user_id)
    if member.user_id == membership.user_id:
        return redirect("leave", organization.public_id)
    access.actor_of(membership).check_gives(permissions.OF_ROLE[member.role])
    if request.method == "POST":
        return _remove(request, membership, member)
    keys = selectors.count_keys_made_by(organization, member.user)
    confirmation = Confirmation(
        title=gettext("Remove %(email)s?") % {"email": member.user.email},
        text=(
            gettext(
                "They lose access to %(name)s at once, and %(keys)s that they made will "
                "be revoked. Keys of service accounts stay."
            )
            % {"name": organization.name, "keys": _keys(keys)}
        ),
        button=gettext("Remove member"),
        back=reverse("member", args=[organization.public_id, user_id]),
        facts={
            gettext("Role"): in_words(member.get_role_display()),
            gettext("Joined"): moment(member.created_at),
            gettext("Keys that are revoked"): keys,
        },
    )
    return ask(request, membership, confirmation, tab="members")


def _keys(count: int) -> str:
    if not count:
        return gettext("no keys")
    return ngettext("%(count)d key", "%(count)d keys", count) % {"count": count}


def _remove(request: HttpRequest, membership: Membership, member: Membership) -> HttpResponse:
    organization_id = membership.organization.public_id
    try:
        actions.remove_member(
            member, actor=access.actor_of(membership), address=address_of(request)
        )
    except InvalidInput as error:
        return refuse(request, error, "members", organization_id)
    messages.success(
        request, gettext("%(email)s is no longer a member.") % {"email": member.user.email}
    )
    return redirect("members", organization_id)


@require_http_methods(["GET", "HEAD", "POST"])
@organization_page("organization.read")
def leave(request: HttpRequest, membership: Membership) -> HttpResponse:
    organization = membership.organization
    if request.method == "POST":
        try:
            actions.remove_member(
                membership, actor=access.actor_of(membership), address=address_of(request)
            )
        except InvalidInput as error:
            return refuse(request, error, "leave", organization.public_id)
        messages.success(request, gettext("You have left %(name)s.") % {"name": organization.name})
        return redirect("home")
    keys = selectors.count_keys_made_by(organization, user_of(request))
    confirmation = Confirmation(
        title=gettext("Leave %(name)s?") % {"name": organization.name},
        text=(
            gettext(
                "You lose access at once, and %(keys)s that you made will be revoked. To "
                "come back you need an invitation."
            )
            % {"keys": _keys(keys)}
        ),
        button=gettext("Leave organization"),
        back=reverse("members", args=[organization.public_id]),
        facts={
            gettext("Your role"): in_words(membership.get_role_display()),
            gettext("Keys that are revoked"): keys,
        },
    )
    return ask(request, membership, confirmation, tab="members")
