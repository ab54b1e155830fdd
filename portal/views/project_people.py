"""Who works in a project: members with their roles, and programs."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from portal.confirmations import Confirmation, ask
from portal.fields import add_refusal
from portal.pages import address_of, organization_page, render_page, user_of
from portal.project_forms import ProjectMemberForm, ProjectRoleForm, ServiceAccountForm
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
            form.add_error("email", "Nobody in this organization has this address.")
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
                messages.success(request, f"{person.user.email} is in “{project.name}” now.")
                return back_to(project)
    return _form_page(
        request,
        membership,
        project,
        form,
        title="Add a member",
        button="Add to project",
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
        messages.success(request, f"{member.user.email} is {member.get_role_display()} now.")
        return back_to(project)
    return _form_page(
        request, membership, project, form, title=f"Role of {member.user.email}", button="Save"
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
        messages.success(request, f"{member.user.email} is no longer in “{project.name}”.")
        return back_to(project)
    confirmation = Confirmation(
        title=f"Remove {member.user.email} from “{project.name}”?",
        text=(
            "They keep what their role in the organization allows. Keys that they made stay; "
            "revoke those one by one if they should end."
        ),
        button="Remove",
        back=_address(project),
        facts={"Role in the project": member.get_role_display()},
    )
    return ask(request, membership, confirmation, tab="projects")


def _access_member(project: Project, user_id: str) -> ProjectMembership:
    member = selectors.get_project_members(project).filter(user__public_id=user_id).first()
    if member is None:
        raise NotFound("No such member.")
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
        messages.success(request, f"“{account.name}” is ready. Create its first key.")
        if access.is_allowed(membership, "key.create", project):
            create = reverse("key_create", args=[membership.organization.public_id])
            return redirect(f"{create}?owner={account.public_id}")
        return back_to(project)
    return _form_page(
        request, membership, project, form, title="New service account", button="Create"
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
        messages.success(request, f"“{account.name}” is deleted and its keys are revoked.")
        return back_to(project)
    current = selectors.get_service_accounts(project).filter(pk=account.pk).get()
    confirmation = Confirmation(
        title=f"Delete “{account.name}”?",
        text="Its keys are revoked and refused within a second. This cannot be undone.",
        button="Delete service account",
        back=_address(project),
        facts={"Keys that stop working": len(current.current_keys)},  # type: ignore[attr-defined]
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
