"""Projects: listed, made, looked at, changed, archived."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext, gettext_lazy
from django.views.decorators.http import require_http_methods, require_safe

from inference import selectors as inference
from portal.confirmations import Confirmation, ask
from portal.fields import LIMIT_NAMES, add_refusal
from portal.key_status import status_of
from portal.pages import address_of, organization_page, render_page, user_of
from portal.project_forms import (
    LimitsForm,
    ModelLimitsForm,
    ProjectFilter,
    ProjectForm,
    ProjectNameForm,
    TypedNameForm,
)
from portal.reach import Reach, check_reach
from portal.tables import Column, Table
from tenants import access, actions, selectors
from tenants.errors import InvalidInput
from tenants.models import Membership, Organization, Project

# The detail page shows the first of each kind and links to the rest.
SHOWN_KEYS = 10
SHOWN_PEOPLE = 100
CONTROLS = (
    "project.manage",
    "limit.manage",
    "project_member.manage",
    "service_account.manage",
    "key.create",
    "key.read",
    "member.read",
)


class ProjectTable(Table):
    """Projects that this member may see, the active or the archived ones."""

    columns = (
        Column("name", gettext_lazy("Name"), ("name",), is_primary=True),
        Column("keys", gettext_lazy("Keys"), ("live_keys",), True, is_number=True),
        Column("people", gettext_lazy("Members"), ("people",), True, is_number=True),
        Column("models", gettext_lazy("Models"), style="soft"),
        Column(
            "budget",
            gettext_lazy("Budget a month"),
            ("monthly_budget_micros",),
            True,
            is_sparse=True,
            style="soft",
        ),
        Column("created", gettext_lazy("Created"), ("created_at",), True, style="soft"),
    )
    sort = "name"

    def __init__(self, request: HttpRequest, organization: Organization, reach: Reach):
        super().__init__(request, form=ProjectFilter(request.GET))
        self.organization, self.reach = organization, reach
        self.is_archived = request.GET.get("state") == "archived"

    def get_rows(self, chosen: Mapping[str, Any]) -> QuerySet[Project]:
        return selectors.get_project_list(
            self.organization,
            projects=self.reach.only,
            is_archived=self.is_archived,
            search=chosen.get("q", ""),
        )


@require_safe
@organization_page("organization.read")
def list_projects(request: HttpRequest, membership: Membership) -> HttpResponse:
    reach = check_reach(membership, "project.read")
    context = {"projects": ProjectTable(request, membership.organization, reach)}
    return render_page(request, membership, "portal/projects.html", context, tab="projects")


@require_http_methods(["GET", "HEAD", "POST"])
@organization_page("project.create")
def create_project(request: HttpRequest, membership: Membership) -> HttpResponse:
    organization = membership.organization
    form = ProjectNameForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        try:
            project = actions.create_project(
                organization,
                form.cleaned_data["name"],
                acting_user=user_of(request),
                address=address_of(request),
            )
        except InvalidInput as error:
            add_refusal(form, error.message, error.param)
        else:
            messages.success(request, gettext("“%(name)s” is ready.") % {"name": project.name})
            return redirect("project", organization.public_id, project.public_id)
    context = {"form": form, "title": gettext("New project"), "back": _list(membership)}
    return _form_page(request, membership, context | {"button": gettext("Create project")})


@require_safe
@organization_page("organization.read")
def show_project(request: HttpRequest, membership: Membership, project_id: str) -> HttpResponse:
    project = access_project(membership, project_id, "project.read", with_archived=True)
    may = {name.replace(".", "_"): _may(membership, name, project) for name in CONTROLS}
    now = timezone.now()
    keys = selectors.get_api_keys(project.organization, projects={project.pk}, state="")
    people = selectors.get_project_members(project)[: SHOWN_PEOPLE + 1]
    context: dict[str, Any] = {
        "project": project,
        "may": may,
        "model_limits": [limit for limit in selectors.get_model_limits(project) if _is_set(limit)],
        "members": people if may["member_read"] else [],
        "keys": [{"key": key, "status": status_of(key, now)} for key in keys[:SHOWN_KEYS]]
        if may["key_read"]
        else [],
        "accounts": selectors.get_service_accounts(project),
        "now": now,
    }
    return render_page(request, membership, "portal/project.html", context, tab="projects")


def access_project(
    membership: Membership, project_id: str, permission: str, *, with_archived: bool = False
) -> Project:
    """A project in which the member may do this. One that they may not even see is absent."""
    project = access.access_project(
        membership.organization, project_id, with_archived=with_archived
    )
    access.check_permission(membership, permission, project)
    return project


def _may(membership: Membership, permission: str, project: Project) -> bool:
    is_over = project.archived_at is not None and not permission.endswith(".read")
    return not is_over and access.is_allowed(membership, permission, project)


def _is_set(limits: Any) -> bool:
    return any(getattr(limits, name) is not None for name in LIMIT_NAMES)


@require_http_methods(["GET", "HEAD", "POST"])
@organization_page("organization.read")
def edit_project(request: HttpRequest, membership: Membership, project_id: str) -> HttpResponse:
    project = access_project(membership, project_id, "project.manage")
    form = ProjectForm(*_posted(request), models=inference.get_model_names(), project=project)
    if form.is_valid() and _update(request, project, form, form.cleaned_data):
        return back_to(project)
    return _edit_page(request, membership, project, form, gettext("Name and models"))


@require_http_methods(["GET", "HEAD", "POST"])
@organization_page("organization.read")
def edit_limits(request: HttpRequest, membership: Membership, project_id: str) -> HttpResponse:
    project = access_project(membership, project_id, "limit.manage")
    form = LimitsForm(*_posted(request), limits_of=project)
    if form.is_valid() and _update(request, project, form, form.limits):
        return back_to(project)
    return _edit_page(request, membership, project, form, gettext("Limits"))


def _update(request: HttpRequest, project: Project, form: Any, wanted: dict[str, Any]) -> bool:
    changes = {name: value for name, value in wanted.items() if value != getattr(project, name)}
    if not changes:
        messages.info(request, gettext("Nothing was changed."))
        return True
    try:
        actions.update_project(
            project, changes, acting_user=user_of(request), address=address_of(request)
        )
    except InvalidInput as error:
        add_refusal(form, error.message, error.param)
        return False
    messages.success(request, gettext("Saved. It holds within a second."))
    return True


@require_http_methods(["GET", "HEAD", "POST"])
@organization_page("organization.read")
def edit_model_limits(
    request: HttpRequest, membership: Membership, project_id: str
) -> HttpResponse:
    """Limits of one model, named by ``?model=`` when they exist."""
    project = access_project(membership, project_id, "limit.manage")
    existing = {limit.model: limit for limit in selectors.get_model_limits(project)}
    current = existing.get(request.GET.get("model", ""))
    names = [current.model] if current else inference.get_model_names()
    form = ModelLimitsForm(*_posted(request), models=names, limits_of=current)
    if form.is_valid():
        actions.set_project_model_limit(
            project,
            form.cleaned_data["model"],
            form.limits,
            acting_user=user_of(request),
            address=address_of(request),
        )
        messages.success(request, gettext("Saved. It holds within a second."))
        return back_to(project)
    return _edit_page(request, membership, project, form, gettext("Limits of one model"))


@require_http_methods(["GET", "HEAD", "POST"])
@organization_page("organization.read")
def archive_project(request: HttpRequest, membership: Membership, project_id: str) -> HttpResponse:
    project = access_project(membership, project_id, "project.manage")
    form = TypedNameForm(*_posted(request), name=project.name)
    if form.is_valid():
        actions.archive_project(project, acting_user=user_of(request), address=address_of(request))
        messages.success(
            request,
            gettext("“%(name)s” is archived. Its keys are refused now.") % {"name": project.name},
        )
        return redirect("projects", membership.organization.public_id)
    live = selectors.get_api_keys(project.organization, projects={project.pk}, state="live")
    confirmation = Confirmation(
        title=gettext("Archive “%(name)s”?") % {"name": project.name},
        text=(
            gettext(
                "Its keys are refused within a second and its limits end. Usage and cost stay on "
                "record. An archived project cannot be brought back."
            )
        ),
        button=gettext("Archive project"),
        back=reverse("project", args=[membership.organization.public_id, project.public_id]),
        facts={gettext("Keys that stop working"): live.count()},
    )
    return ask(request, membership, confirmation, tab="projects", form=form)


def back_to(project: Project) -> HttpResponse:
    return redirect("project", project.organization.public_id, project.public_id)


def _posted(request: HttpRequest) -> list[Any]:
    return [request.POST] if request.method == "POST" else []


def _list(membership: Membership) -> str:
    return reverse("projects", args=[membership.organization.public_id])


def _edit_page(
    request: HttpRequest, membership: Membership, project: Project, form: Any, title: str
) -> HttpResponse:
    back = reverse("project", args=[membership.organization.public_id, project.public_id])
    context = {"form": form, "title": title, "subject": project.name, "back": back}
    return _form_page(request, membership, context | {"button": gettext("Save")})


def _form_page(
    request: HttpRequest, membership: Membership, context: dict[str, Any]
) -> HttpResponse:
    status = 400 if context["form"].errors else 200
    return render_page(
        request, membership, "portal/form.html", context, tab="projects", status=status
    )
