"""Custom roles: sets of permissions, given to people and groups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext, gettext_lazy
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from portal.confirmations import Confirmation, ask
from portal.fields import add_refusal
from portal.pages import address_of, organization_page, render_page
from portal.people_forms import ROLE_HELP, AssignForm, RoleForm
from portal.permission_words import PERMISSION_LABELS
from portal.room_words import choices_of
from portal.tables import Column, Table
from portal.views.project_people import OFFERED_PEOPLE
from tenants import access, actions, permissions, selectors
from tenants.errors import AccessDenied, InvalidInput, NotFound
from tenants.models import CustomRole, Group, Membership, Organization, Role, User

PAGE_SIZE = 50


class RoleTable(Table):
    """Roles of the organization's own."""

    columns = (
        Column("name", gettext_lazy("Name"), ("name",), is_primary=True),
        Column("permissions", gettext_lazy("Permissions"), is_number=True),
        Column("holders", gettext_lazy("Given to"), ("holders",), True, is_number=True),
        Column("created", gettext_lazy("Created"), ("created_at",), True, style="soft"),
    )
    sort = "name"

    def __init__(self, request: HttpRequest, organization: Organization):
        super().__init__(request)
        self.organization = organization

    def get_rows(self, chosen: Mapping[str, Any]) -> QuerySet[CustomRole]:
        return selectors.get_custom_roles(self.organization)


@require_safe
@organization_page("member.read")
def list_roles(request: HttpRequest, membership: Membership) -> HttpResponse:
    predefined = [
        {"label": label, "help": ROLE_HELP[role], "count": len(permissions.OF_ROLE[role])}
        for role, label in choices_of(Role)
    ]
    context = {
        "roles": RoleTable(request, membership.organization),
        "predefined": predefined,
        "may_manage": access.is_allowed(membership, "role.manage"),
    }
    return render_page(request, membership, "portal/roles.html", context, tab="members")


@require_http_methods(["GET", "HEAD", "POST"])
@organization_page("role.manage")
def create_role(request: HttpRequest, membership: Membership) -> HttpResponse:
    actor = access.actor_of(membership)
    form = RoleForm(request.POST if request.method == "POST" else None, held=actor.everywhere)
    _check_asked(membership, request)
    if form.is_valid():
        try:
            role = actions.create_role(
                membership.organization,
                form.cleaned_data["name"],
                form.cleaned_data["permissions"],
                description=form.cleaned_data["description"],
                actor=actor,
                address=address_of(request),
            )
        except InvalidInput as error:
            _refuse(form, error)
        else:
            messages.success(
                request, gettext("“%(name)s” is ready to be given.") % {"name": role.name}
            )
            return _to(role)
    return _form_page(request, membership, form, None)


@require_http_methods(["GET", "HEAD", "POST"])
@organization_page("role.manage")
def edit_role(request: HttpRequest, membership: Membership, role_id: str) -> HttpResponse:
    role = access.access_custom_role(membership.organization, role_id)
    actor = access.actor_of(membership)
    actor.check_gives(frozenset(role.permissions))
    posted = request.POST if request.method == "POST" else None
    form = RoleForm(posted, held=actor.everywhere, role=role)
    _check_asked(membership, request)
    if form.is_valid():
        try:
            role = actions.update_role(
                role,
                name=form.cleaned_data["name"],
                given=form.cleaned_data["permissions"],
                description=form.cleaned_data["description"],
                actor=actor,
                address=address_of(request),
            )
        except InvalidInput as error:
            _refuse(form, error)
        else:
            messages.success(
                request,
                gettext("“%(name)s” is saved, for everybody who has it.") % {"name": role.name},
            )
            return _to(role)
    return _form_page(request, membership, form, role)


def _check_asked(membership: Membership, request: HttpRequest) -> None:
    """Permissions that the form did not offer are refused as what they are, not as a typo."""
    asked = frozenset(request.POST.getlist("permissions")) & permissions.ALL
    access.actor_of(membership).check_gives(asked)


def _refuse(form: RoleForm, error: InvalidInput) -> None:
    add_refusal(form, error.message, "name" if error.param == "role_name" else error.param)


@require_http_methods(["GET", "HEAD", "POST"])
@organization_page("member.read")
def show_role(request: HttpRequest, membership: Membership, role_id: str) -> HttpResponse:
    """What the role allows and who has it; the form gives it."""
    organization = membership.organization
    role = access.access_custom_role(organization, role_id)
    may_manage = _may_manage(membership, role)
    form = AssignForm(
        request.POST if request.method == "POST" else None,
        groups=selectors.get_groups(organization) if may_manage else [],
        projects=selectors.get_projects(organization) if may_manage else [],
    )
    if request.method == "POST":
        access.check_permission(membership, "role.manage")
        if not may_manage:
            access.actor_of(membership).check_gives(frozenset(role.permissions))
        if form.is_valid() and _assign(request, membership, role, form):
            return _to(role)
    assignments = selectors.get_role_assignments(organization, role=role)
    context = {
        "role": role,
        "form": form,
        "may_manage": may_manage,
        "permissions": [PERMISSION_LABELS.get(name, name) for name in role.permissions],
        "page": Paginator(assignments, PAGE_SIZE).get_page(request.GET.get("page")),
        "people": selectors.get_members(organization)[:OFFERED_PEOPLE] if may_manage else [],
    }
    status = 400 if form.errors else 200
    return render_page(
        request, membership, "portal/role.html", context, tab="members", status=status
    )


def _may_manage(membership: Membership, role: CustomRole) -> bool:
    if not access.is_allowed(membership, "role.manage"):
        return False
    try:
        access.actor_of(membership).check_gives(frozenset(role.permissions))
    except AccessDenied:
        return False
    return True


def _assign(
    request: HttpRequest, membership: Membership, role: CustomRole, form: AssignForm
) -> bool:
    to: User | Group | None = form.groups.get(form.cleaned_data["group"])
    if to is None:
        person = selectors.find_member(membership.organization, form.cleaned_data["email"])
        to = person.user if person else None
    if to is None:
        form.add_error("email", gettext("Nobody in this organization has this address."))
        return False
    actions.assign_role(
        role,
        to,
        project=form.projects.get(form.cleaned_data["project"]),
        actor=access.actor_of(membership),
        address=address_of(request),
    )
    messages.success(request, gettext("%(to)s has “%(name)s” now.") % {"to": to, "name": role.name})
    return True


@require_POST
@organization_page("role.manage")
def unassign_role(
    request: HttpRequest, membership: Membership, role_id: str, assignment_id: int
) -> HttpResponse:
    role = access.access_custom_role(membership.organization, role_id)
    assignments = selectors.get_role_assignments(membership.organization, role=role)
    assignment = assignments.filter(pk=assignment_id).first()
    if assignment is None:
        raise NotFound(gettext("No such assignment."))
    holder = assignment.user or assignment.group
    actions.unassign_role(
        assignment, actor=access.actor_of(membership), address=address_of(request)
    )
    messages.success(
        request,
        gettext("%(holder)s no longer has “%(name)s”.") % {"holder": holder, "name": role.name},
    )
    return _to(role)


@require_http_methods(["GET", "HEAD", "POST"])
@organization_page("role.manage")
def delete_role(request: HttpRequest, membership: Membership, role_id: str) -> HttpResponse:
    organization = membership.organization
    role = access.access_custom_role(organization, role_id)
    access.actor_of(membership).check_gives(frozenset(role.permissions))
    if request.method == "POST":
        actions.delete_role(role, actor=access.actor_of(membership), address=address_of(request))
        messages.success(request, gettext("“%(name)s” is deleted.") % {"name": role.name})
        return redirect("roles", organization.public_id)
    holders = selectors.get_role_assignments(organization, role=role).count()
    confirmation = Confirmation(
        title=gettext("Delete the role “%(name)s”?") % {"name": role.name},
        text=gettext("Everybody who has it loses what it allows. This cannot be undone."),
        button=gettext("Delete role"),
        back=reverse("role", args=[organization.public_id, role_id]),
        facts={gettext("Given to"): holders},
    )
    return ask(request, membership, confirmation, tab="members")


def _to(role: CustomRole) -> HttpResponse:
    return redirect("role", role.organization.public_id, role.public_id)


def _form_page(
    request: HttpRequest, membership: Membership, form: RoleForm, role: CustomRole | None
) -> HttpResponse:
    status = 400 if form.errors else 200
    context = {"form": form, "role": role}
    return render_page(
        request, membership, "portal/role_form.html", context, tab="members", status=status
    )
