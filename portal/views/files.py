"""Files of projects: listed, uploaded, downloaded, deleted.

Who sees a project's keys sees the names and sizes of its files. What is in them takes what making
a key takes, because a key could read them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.template.defaultfilters import filesizeformat
from django.urls import reverse
from django.utils.translation import gettext, gettext_lazy
from django.views.decorators.http import require_http_methods, require_safe

from inference.batches.selectors import get_organization_batches
from inference.errors import InferenceError
from inference.files import actions
from inference.files.models import File
from inference.files.receiving import store_batch_file
from inference.files.selectors import access_organization_file, get_organization_files
from inference.objects import object_store
from portal import confirmations
from portal.batch_forms import FileFilter, UploadForm
from portal.confirmations import Confirmation
from portal.fields import add_refusal
from portal.pages import address_of, organization_page, render_page, user_of
from portal.reach import Reach, check_reach, reach_of
from portal.streams import stream_pieces
from portal.tables import Column, Table
from portal.words_of_batches import PURPOSES, STATUSES
from tenants import access, selectors
from tenants.errors import OrganizationSuspended, TenantError
from tenants.models import Membership, Organization

SEE, USE = "key.read", "key.create"


class FileTable(Table):
    """Files of the projects whose keys this member may see."""

    columns = (
        Column("name", gettext_lazy("Name"), ("filename",), is_primary=True),
        Column("kind", gettext_lazy("Kind"), style="soft"),
        Column("project", gettext_lazy("Project"), ("project__name",), style="soft wrap"),
        Column("size", gettext_lazy("Size"), ("bytes",), True, is_number=True),
        Column("created", gettext_lazy("Created"), ("created_at",), True, style="soft"),
        Column("expires", gettext_lazy("Expires"), ("expires_at",), is_sparse=True, style="soft"),
    )
    sort = "-created"

    def __init__(self, request: HttpRequest, organization: Organization, reach: Reach):
        projects = selectors.get_projects(organization, projects=reach.only)
        self.filters = FileFilter(request.GET, projects=list(projects))
        self.organization, self.reach = organization, reach
        super().__init__(request, form=self.filters)

    def get_rows(self, chosen: Mapping[str, Any]) -> QuerySet[File]:
        projects = self.reach.only
        if "project" in chosen:
            projects = frozenset({self.filters.projects[chosen["project"]]})
        return get_organization_files(
            self.organization,
            projects=projects,
            purpose=chosen.get("purpose", ""),
            search=chosen.get("q", ""),
        )

    def prepare(self, rows: Sequence[File]) -> list[dict[str, Any]]:
        return [{"file": file, "kind": PURPOSES[file.purpose]} for file in rows]


@require_safe
@organization_page("organization.read")
def list_files(request: HttpRequest, membership: Membership) -> HttpResponse:
    reach = check_reach(membership, SEE)
    context = {
        "files": FileTable(request, membership.organization, reach),
        "may_use": bool(reach_of(membership, USE)),
    }
    return render_page(request, membership, "portal/files.html", context, tab="batches")


@require_http_methods(["GET", "HEAD", "POST"])
@organization_page("organization.read")
def upload_file(request: HttpRequest, membership: Membership) -> HttpResponse:
    organization = membership.organization
    reach = check_reach(membership, USE)
    projects = list(selectors.get_projects(organization, projects=reach.only))
    if request.method == "POST":
        check_not_suspended(organization)
        form = UploadForm(request.POST, request.FILES, projects=projects)
        if form.is_valid() and (file := _store(request, form)):
            messages.success(request, gettext("The file is stored."))
            return redirect("file", organization.public_id, file.public_id)
    else:
        form = UploadForm(initial={"project": request.GET.get("project", "")}, projects=projects)
    context = {"form": form}
    status = 400 if form.errors else 200
    return render_page(
        request, membership, "portal/file_upload.html", context, tab="batches", status=status
    )


def _store(request: HttpRequest, form: UploadForm) -> File | None:
    """None: the form says why not."""
    sent = form.cleaned_data["file"]
    try:
        return store_batch_file(
            form.cleaned_data["project"],
            sent.chunks(),
            filename=sent.name or "",
            size=sent.size,
            acting_user=user_of(request),
            address=address_of(request),
        )
    except (InferenceError, TenantError) as error:
        add_refusal(form, error.message, "file")
        return None


def check_not_suspended(organization: Organization) -> None:
    if organization.is_suspended:
        raise OrganizationSuspended(gettext("This organization is suspended."))


def access_file(membership: Membership, file_id: str, permission: str) -> File:
    """A file of a project in which the member has ``permission``."""
    file = access_organization_file(membership.organization, file_id)
    access.check_permission(membership, permission, file.project)
    return file


@require_safe
@organization_page("organization.read")
def show_file(request: HttpRequest, membership: Membership, file_id: str) -> HttpResponse:
    file = access_file(membership, file_id, SEE)
    batches = get_organization_batches(
        membership.organization, projects=[file.project_id], search=file.public_id
    )[:20]
    context = {
        "file": file,
        "kind": PURPOSES[file.purpose],
        "batches": [{"batch": batch, "status": STATUSES[batch.status]} for batch in batches],
        "may_use": access.is_allowed(membership, USE, file.project),
    }
    return render_page(request, membership, "portal/file.html", context, tab="batches")


@require_safe
@organization_page("organization.read")
def download_file(request: HttpRequest, membership: Membership, file_id: str) -> HttpResponseBase:
    file = access_file(membership, file_id, USE)
    try:
        pieces = object_store().read(file.object_key, 0, file.bytes)
        return stream_pieces(request, pieces, file.bytes, file.filename or file.public_id)
    except InferenceError as error:
        messages.error(request, error.message)
        return redirect("file", membership.organization.public_id, file.public_id)


@require_http_methods(["GET", "HEAD", "POST"])
@organization_page("organization.read")
def delete_file(request: HttpRequest, membership: Membership, file_id: str) -> HttpResponse:
    file = access_file(membership, file_id, USE)
    organization_id = membership.organization.public_id
    if request.method == "POST":
        try:
            actions.delete_file(file, acting_user=user_of(request), address=address_of(request))
        except TenantError as error:
            return confirmations.refuse(request, error, "file", organization_id, file.public_id)
        messages.success(request, gettext("The file is deleted."))
        return redirect("files", organization_id)
    asked = Confirmation(
        title=gettext("Delete this file?"),
        text=gettext("Its content is gone within a minute. This cannot be undone."),
        button=gettext("Delete file"),
        back=reverse("file", args=[organization_id, file.public_id]),
        facts={gettext("Name"): file.filename, gettext("Size"): filesizeformat(file.bytes)},
        keep=gettext("Cancel"),
    )
    return confirmations.ask(request, membership, asked, tab="batches")
