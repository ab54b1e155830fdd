"""Invitations as an organization sees them: sent, sent again, withdrawn."""

from __future__ import annotations

from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_http_methods

from portal.confirmations import Confirmation, ask, refuse
from portal.fields import add_refusal
from portal.pages import address_of, organization_page, render_page, user_of
from portal.people_forms import InviteForm
from portal.room_words import in_words
from portal.views.members import roles_within
from tenants import access, actions, mail, permissions, selectors
from tenants.errors import InvalidInput, NotFound
from tenants.models import Invitation, Membership, Role

# A form with more boxes helps nobody; the rest can be given afterwards.
OFFERED_PROJECTS = 100


@require_http_methods(["GET", "HEAD", "POST"])
@organization_page("member.manage")
def invite(request: HttpRequest, membership: Membership) -> HttpResponse:
    roles = roles_within(membership)
    form = InviteForm(
        request.POST if request.method == "POST" else None,
        roles=roles,
        projects=selectors.get_projects(membership.organization)[:OFFERED_PROJECTS],
        initial={"role": Role.DEVELOPER if Role.DEVELOPER in roles else Role.VIEWER},
    )
    if request.method == "POST":
        role = request.POST.get("role", "")
        if role in Role.values and role not in roles:
            access.actor_of(membership).check_gives(permissions.OF_ROLE[role])
        if form.is_valid():
            try:
                _invite(
                    request,
                    membership,
                    form.cleaned_data["email"],
                    form.cleaned_data["role"],
                    form.chosen_projects,
                )
            except InvalidInput as error:
                add_refusal(form, error.message, error.param)
            else:
                return redirect("members", membership.organization.public_id)
    status = 400 if form.errors else 200
    return render_page(
        request, membership, "portal/invite.html", {"form": form}, tab="members", status=status
    )


@sensitive_variables("token")
def _invite(
    request: HttpRequest,
    membership: Membership,
    email: str,
    role: str,
    projects: list[dict[str, str]],
) -> None:
    """The invitation and its mail, both or neither."""
    _check_projects(membership, projects)
    with transaction.atomic():
        invitation, token = actions.invite_member(
            membership.organization,
            email,
            role,
            projects=projects,
            actor=access.actor_of(membership),
            address=address_of(request),
        )
        mail.send_invitation(invitation, token)
    messages.success(
        request, gettext("The invitation is on its way to %(email)s.") % {"email": invitation.email}
    )


def _check_projects(membership: Membership, projects: list[dict[str, str]]) -> None:
    """Nobody gives a role in a project that may more there than they may."""
    for entry in projects:
        project = access.access_project(membership.organization, entry["id"])
        given = permissions.OF_PROJECT_ROLE[entry["role"]]
        access.actor_of(membership).check_gives(given, project)


@require_http_methods(["GET", "HEAD", "POST"])
@organization_page("member.manage")
def resend(request: HttpRequest, membership: Membership, invitation_id: str) -> HttpResponse:
    """A new link by mail; the one before dies."""
    organization = membership.organization
    invitation = _access_open(membership, invitation_id)
    if request.method == "POST":
        live = set(selectors.get_projects(organization).values_list("public_id", flat=True))
        projects = [entry for entry in invitation.projects if entry["id"] in live]
        try:
            _invite(request, membership, invitation.email, invitation.role, projects)
        except InvalidInput as error:
            return refuse(request, error, "members", organization.public_id)
        return redirect("members", organization.public_id)
    confirmation = Confirmation(
        title=gettext("Send %(email)s a new link?") % {"email": invitation.email},
        text=gettext("The link that they were sent before stops working."),
        button=gettext("Send again"),
        back=reverse("members", args=[organization.public_id]),
        facts={
            gettext("Role"): in_words(invitation.get_role_display()),
            gettext("State"): _state(invitation),
        },
        is_dangerous=False,
    )
    return ask(request, membership, confirmation, tab="members")


@require_http_methods(["GET", "HEAD", "POST"])
@organization_page("member.manage")
def revoke(request: HttpRequest, membership: Membership, invitation_id: str) -> HttpResponse:
    invitation = _access_open(membership, invitation_id)
    back = reverse("members", args=[membership.organization.public_id])
    if request.method == "POST":
        actions.revoke_invitation(
            invitation, acting_user=user_of(request), address=address_of(request)
        )
        messages.success(
            request,
            gettext("The invitation of %(email)s is withdrawn.") % {"email": invitation.email},
        )
        return redirect(back)
    confirmation = Confirmation(
        title=gettext("Withdraw the invitation of %(email)s?") % {"email": invitation.email},
        text=gettext("Their link stops working at once. You can invite them again."),
        button=gettext("Withdraw"),
        back=back,
        facts={
            gettext("Role"): in_words(invitation.get_role_display()),
            gettext("State"): _state(invitation),
        },
        keep=gettext("Keep it"),
    )
    return ask(request, membership, confirmation, tab="members")


def _access_open(membership: Membership, invitation_id: str) -> Invitation:
    invitation = access.access_invitation(membership.organization, invitation_id)
    if invitation.accepted_at or invitation.revoked_at:
        raise NotFound(gettext("No such invitation."))
    return invitation


def _state(invitation: Invitation) -> str:
    return in_words(Invitation.Status(invitation.status).label)
