"""Who works in a project: members with their roles, and programs."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext
from django.views.decorators.http import require_http_methods

from portal.confirmations import Confirmation, ask
from portal.fields import add_refusal
from portal.pages import address_of, organization_page, render_page, user_of
from portal.project_forms import ProjectMemberForm, ProjectRoleForm, ServiceAccountForm
from portal.room_words import in_words
from portal.views.projects import access_project, back_to
from tenants import access, actions, permissions, selectors
from tenants.errors import InvalidInput, NotFound
from tenants.models import Membership, Project, ProjectMembership

# Addresses that a page offers to choose from; others can be typed.
OFFERED_PEOPLE = 200


@require_http_methods(["GET", "HEAD", "POST"])
@organization_page("organization.read")
def add_member(request: HttpRequest, membership: Membership, project_id: str) -> HttpResponse:
    project = access_project(membership, project_id, "project_member.manage")
    form = ProjectMemberForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        role = form.cleaned_data["role"]
        _check_gives(membership, project, role)
        person = selectors.find_member(membership.organization, form.cleaned_data["email"])
        if person is None:
            form.add_error("email", gettext("Nobody in this organization has this address."))
        else:
            try:
                actions.add_project_member(
                    project,
                    person.user,
                    role,
                    acting_user=user_of(request),
                    address=address_of(request),
                )
            except InvalidInput as error:
                add_refusal(form, error.message, "email")
            else:
                messages.success(
                    request,
                    gettext("%(email)s is in “%(name)s” now.")
                    % {"email": person.user.email, "name": project.name},
                )
                return back_to(project)
    return _form_page(
        request,
        membership,
        project,
        form,
        title=gettext("Add a member"),
        button=gettext("Add to project"),
        people=selectors.get_members(membership.organization)[:OFFERED_PEOPLE],
    )


@require_http_methods(["GET", "HEAD", "POST"])
@organization_page("organization.read")
def change_member(
    request: HttpRequest, membership: Membership, project_id: str, user_id: str
) -> HttpResponse:
    project = access_project(membership, project_id, "project_member.manage")
    member = _access_member(project, user_id)
    form = ProjectRoleForm(
        request.POST if request.method == "POST" else None, initial={"role": member.role}
    )
    if form.is_valid():
        role = form.cleaned_data["role"]
        _check_gives(membership, project, member.role, role)
        member = actions.change_project_member(
            member, role, acting_user=user_of(request), address=address_of(request)
        )
        messages.success(
            request,
            gettext("%(email)s is %(role)s now.")
            % {"email": member.user.email, "role": in_words(member.get_role_display())},
        )
        return back_to(project)
    return _form_page(
        request,
        membership,
        project,
        form,
        title=gettext("Role of %(email)s") % {"email": member.user.email},
        button=gettext("Save"),
    )


@require_http_methods(["GET", "HEAD", "POST"])
@organization_page("organization.read")
def remove_member(
    request: HttpRequest, membership: Membership, project_id: str, user_id: str
) -> HttpResponse:
    project = access_project(membership, project_id, "project_member.manage")
    member = _access_member(project, user_id)
    if request.method == "POST":
        _check_gives(membership, project, member.role)
        actions.remove_project_member(
            member, acting_user=user_of(request), address=address_of(request)
        )
        messages.success(
            request,
            gettext("%(email)s is no longer in “%(name)s”.")
            % {"email": member.user.email, "name": project.name},
        )
        return back_to(project)
    confirmation = Confirmation(
        title=gettext("Remove %(email)s from “%(name)s”?")
        % {"email": member.user.email, "name": project.name},
        text=(
            gettext(
                "They keep what their role in the organization allows. Keys that they made stay; "
                "revoke those one by one if they should end."
            )
        ),
        button=gettext("Remove"),
        back=_address(project),
        facts={gettext("Role in the project"): in_words(member.get_role_display())},
    )
    return ask(request, membership, confirmation, tab="projects")


def _access_member(project: Project, user_id: str) -> ProjectMembership:
    member = selectors.get_project_members(project).filter(user__public_id=user_id).first()
    if member is None:
        raise NotFound(gettext("No such member."))
    return member


def _check_gives(membership: Membership, project: Project, *roles: str) -> None:
    """Nobody gives or takes away more in a project than they have there themselves."""
    given = frozenset().union(*(permissions.OF_PROJECT_ROLE[role] for role in roles))
    access.actor_of(membership).check_gives(given, project)


@require_http_methods(["GET", "HEAD", "POST"])
@organization_page("organization.read")
def create_service_account(
    request: HttpRequest, membership: Membership, project_id: str
) -> HttpResponse:
    project = access_project(membership, project_id, "service_account.manage")
    form = ServiceAccountForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        account = actions.create_service_account(
            project,
            form.cleaned_data["name"],
            acting_user=user_of(request),
            address=address_of(request),
        )
        messages.success(
            request, gettext("“%(name)s” is ready. Create its first key.") % {"name": account.name}
        )
        if access.is_allowed(membership, "key.create", project):
            create = reverse("key_create", args=[membership.organization.public_id])
            return redirect(f"{create}?owner={account.public_id}")
        return back_to(project)
    return _form_page(
        request,
        membership,
        project,
        form,
        title=gettext("New service account"),
        button=gettext("Create"),
    )


@require_http_methods(["GET", "HEAD", "POST"])
@organization_page("organization.read")
def delete_service_account(
    request: HttpRequest, membership: Membership, project_id: str, account_id: str
) -> HttpResponse:
    project = access_project(membership, project_id, "service_account.manage")
    account = access.access_service_account(project, account_id)
    if request.method == "POST":
        actions.delete_service_account(
            account, acting_user=user_of(request), address=address_of(request)
        )
        messages.success(
            request,
            gettext("“%(name)s” is deleted and its keys are revoked.") % {"name": account.name},
        )
        return back_to(project)
    current = selectors.get_service_accounts(project).filter(pk=account.pk).get()
    confirmation = Confirmation(
        title=gettext("Delete “%(name)s”?") % {"name": account.name},
        text=gettext("Its keys are revoked and refused within a second. This cannot be undone."),
        button=gettext("Delete service account"),
        back=_address(project),
        facts={gettext("Keys that stop working"): len(current.current_keys)},  # type: ignore[attr-defined]
    )
    return ask(request, membership, confirmation, tab="projects")


def _address(project: Project) -> str:
    return reverse("project", args=[project.organization.public_id, project.public_id])


def _form_page(
    request: HttpRequest,
    membership: Membership,
    project: Project,
    form: Any,
    **context: Any,
) -> HttpResponse:
    context |= {"form": form, "subject": project.name, "back": _address(project)}
    status = 400 if form.errors else 200
    return render_page(
        request, membership, "portal/form.html", context, tab="projects", status=status
    )
