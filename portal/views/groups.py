"""Groups: people who get roles together."""

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
from portal.pages import address_of, organization_page, render_page, user_of
from portal.people_forms import GroupForm, GroupMemberForm
from portal.tables import Column, Table
from portal.views.project_people import OFFERED_PEOPLE
from tenants import access, actions, selectors
from tenants.errors import InvalidInput, NotFound
from tenants.models import Group, Membership, Organization

PAGE_SIZE = 50


class GroupTable(Table):
    columns = (
        Column("name", gettext_lazy("Name"), ("name",), is_primary=True),
        Column("people", gettext_lazy("People"), ("people",), True, is_number=True),
        Column("roles", gettext_lazy("Roles"), ("roles",), True, is_number=True),
        Column("created", gettext_lazy("Created"), ("created_at",), True, style="soft"),
    )
    sort = "name"

    def __init__(self, request: HttpRequest, organization: Organization):
        super().__init__(request)
        self.organization = organization

    def get_rows(self, chosen: Mapping[str, Any]) -> QuerySet[Group]:
        return selectors.get_groups(self.organization)


@require_safe
@organization_page("member.read")
def list_groups(request: HttpRequest, membership: Membership) -> HttpResponse:
    context = {
        "groups": GroupTable(request, membership.organization),
        "may_manage": access.is_allowed(membership, "group.manage"),
    }
    return render_page(request, membership, "portal/groups.html", context, tab="members")


@require_http_methods(["GET", "HEAD", "POST"])
@organization_page("group.manage")
def create_group(request: HttpRequest, membership: Membership) -> HttpResponse:
    organization = membership.organization
    form = GroupForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        try:
            group = actions.create_group(
                organization,
                form.cleaned_data["name"],
                acting_user=user_of(request),
                address=address_of(request),
            )
        except InvalidInput as error:
            add_refusal(form, error.message, error.param)
        else:
            return redirect("group", organization.public_id, group.public_id)
    return _form_page(
        request, membership, form, gettext("New group"), gettext("Create group"), None
    )


@require_http_methods(["GET", "HEAD", "POST"])
@organization_page("member.read")
def show_group(request: HttpRequest, membership: Membership, group_id: str) -> HttpResponse:
    """Who is in the group and what it may; the form puts somebody in."""
    organization = membership.organization
    group = access.access_group(organization, group_id)
    form = GroupMemberForm(request.POST if request.method == "POST" else None)
    if request.method == "POST":
        access.check_permission(membership, "group.manage")
        if form.is_valid() and _add_member(request, membership, group, form):
            return redirect("group", organization.public_id, group_id)
    may_manage = access.is_allowed(membership, "group.manage")
    members = selectors.get_group_members(group)
    context = {
        "group": group,
        "form": form,
        "may_manage": may_manage,
        "page": Paginator(members, PAGE_SIZE).get_page(request.GET.get("page")),
        "assignments": selectors.get_role_assignments(organization, group=group),
        "people": selectors.get_members(organization)[:OFFERED_PEOPLE] if may_manage else [],
    }
    status = 400 if form.errors else 200
    return render_page(
        request, membership, "portal/group.html", context, tab="members", status=status
    )


def _add_member(
    request: HttpRequest, membership: Membership, group: Group, form: GroupMemberForm
) -> bool:
    person = selectors.find_member(membership.organization, form.cleaned_data["email"])
    if person is None:
        form.add_error("email", gettext("Nobody in this organization has this address."))
        return False
    actions.add_group_member(
        group, person.user, actor=access.actor_of(membership), address=address_of(request)
    )
    messages.success(
        request,
        gettext("%(email)s is in “%(name)s” now.")
        % {"email": person.user.email, "name": group.name},
    )
    return True


@require_POST
@organization_page("group.manage")
def remove_group_member(
    request: HttpRequest, membership: Membership, group_id: str, user_id: str
) -> HttpResponse:
    group = access.access_group(membership.organization, group_id)
    member = selectors.get_group_members(group).filter(user__public_id=user_id).first()
    if member is None:
        raise NotFound(gettext("No such member."))
    actions.remove_group_member(
        member, actor=access.actor_of(membership), address=address_of(request)
    )
    messages.success(
        request,
        gettext("%(email)s is no longer in “%(name)s”.")
        % {"email": member.user.email, "name": group.name},
    )
    return redirect("group", membership.organization.public_id, group_id)


@require_http_methods(["GET", "HEAD", "POST"])
@organization_page("group.manage")
def rename_group(request: HttpRequest, membership: Membership, group_id: str) -> HttpResponse:
    group = access.access_group(membership.organization, group_id)
    posted = request.POST if request.method == "POST" else None
    form = GroupForm(posted, initial={"name": group.name})
    if form.is_valid():
        try:
            actions.rename_group(
                group,
                form.cleaned_data["name"],
                acting_user=user_of(request),
                address=address_of(request),
            )
        except InvalidInput as error:
            add_refusal(form, error.message, error.param)
        else:
            return redirect("group", membership.organization.public_id, group_id)
    return _form_page(
        request, membership, form, gettext("Rename the group"), gettext("Save"), group
    )


@require_http_methods(["GET", "HEAD", "POST"])
@organization_page("group.manage")
def delete_group(request: HttpRequest, membership: Membership, group_id: str) -> HttpResponse:
    organization = membership.organization
    group = access.access_group(organization, group_id)
    if request.method == "POST":
        actions.delete_group(group, actor=access.actor_of(membership), address=address_of(request))
        messages.success(request, gettext("“%(name)s” is deleted.") % {"name": group.name})
        return redirect("groups", organization.public_id)
    counted = selectors.get_groups(organization).get(pk=group.pk)
    confirmation = Confirmation(
        title=gettext("Delete the group “%(name)s”?") % {"name": group.name},
        text=gettext(
            "Its people lose what the group gave them; they stay members of the organization."
        ),
        button=gettext("Delete group"),
        back=reverse("group", args=[organization.public_id, group_id]),
        facts={gettext("People"): counted.people, gettext("Roles"): counted.roles},  # type: ignore[attr-defined]
    )
    return ask(request, membership, confirmation, tab="members")


def _form_page(
    request: HttpRequest,
    membership: Membership,
    form: GroupForm,
    title: str,
    button: str,
    group: Group | None,
) -> HttpResponse:
    arguments = [membership.organization.public_id]
    back = reverse("groups", args=arguments)
    if group is not None:
        back = reverse("group", args=[*arguments, group.public_id])
    context = {"form": form, "title": title, "button": button, "back": back}
    context["subject"] = group.name if group else ""
    status = 400 if form.errors else 200
    return render_page(
        request, membership, "portal/form.html", context, tab="members", status=status
    )
