"""Batches: listed, made of a file, followed while they run, cancelled.

The same people as for files: who sees a project's keys sees its batches; to make or cancel one,
and to read what came of single requests, takes what making a key takes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext, gettext_lazy
from django.views.decorators.http import require_http_methods, require_safe

from inference.batches import actions
from inference.batches.models import Batch
from inference.batches.reading import FailedLine, endpoint_of_file, get_failed_lines
from inference.batches.selectors import access_organization_batch, get_organization_batches
from inference.errors import InferenceError
from inference.files.models import File
from inference.files.selectors import get_organization_files
from portal import confirmations
from portal.batch_forms import BatchFilter, BatchForm
from portal.confirmations import Confirmation
from portal.fields import add_refusal
from portal.form_ids import new_key_form_id, read_batch_form_id
from portal.key_status import status_of
from portal.pages import address_of, organization_page, render_page, user_of
from portal.reach import Reach, check_reach, may_mint, reach_of
from portal.tables import Column, Table
from portal.views.files import SEE, USE, access_file, check_not_suspended
from portal.words_of_batches import STATUSES
from tenants import access, selectors
from tenants.errors import AlreadyDone, TenantError
from tenants.models import ApiKey, Membership, Organization

# In lists to choose from: who looks for an older one begins at its own page.
MOST_OFFERED = 100


class BatchTable(Table):
    columns = (
        Column("batch", gettext_lazy("Batch"), is_primary=True),
        Column("status", gettext_lazy("Status")),
        Column("progress", gettext_lazy("Progress"), is_number=True),
        Column("model", gettext_lazy("Model"), ("model",), style="soft wrap"),
        Column("project", gettext_lazy("Project"), ("project__name",), style="soft wrap"),
        Column("created", gettext_lazy("Created"), ("created_at",), True, style="soft"),
    )
    sort = "-created"

    def __init__(self, request: HttpRequest, organization: Organization, reach: Reach):
        projects = selectors.get_projects(organization, projects=reach.only)
        self.filters = BatchFilter(request.GET, projects=list(projects))
        self.organization, self.reach = organization, reach
        super().__init__(request, form=self.filters)

    def get_rows(self, chosen: Mapping[str, Any]) -> QuerySet[Batch]:
        projects = self.reach.only
        if "project" in chosen:
            projects = frozenset({self.filters.projects[chosen["project"]]})
        return get_organization_batches(
            self.organization,
            projects=projects,
            status=chosen.get("status", ""),
            search=chosen.get("q", ""),
        )

    def prepare(self, rows: Sequence[Batch]) -> list[dict[str, Any]]:
        return [{"batch": batch, "status": STATUSES[batch.status]} for batch in rows]


@require_safe
@organization_page("organization.read")
def list_batches(request: HttpRequest, membership: Membership) -> HttpResponse:
    reach = check_reach(membership, SEE)
    table = BatchTable(request, membership.organization, reach)
    context = {
        "batches": table,
        "is_live": any(row["batch"].is_open for row in table.rows),
        "may_use": bool(reach_of(membership, USE)),
    }
    # A script asks again for what changes, as the same page.
    return render_page(request, membership, "portal/batches.html", context, tab="batches")


@require_http_methods(["GET", "HEAD", "POST"])
@organization_page("organization.read")
def create_batch(request: HttpRequest, membership: Membership) -> HttpResponse:
    """First the file (``?file=``), because it decides the project and so the keys."""
    reach = check_reach(membership, USE)
    file_id = request.GET.get("file", "")
    if not file_id:
        files = get_organization_files(
            membership.organization, projects=reach.only, purpose=File.Purpose.BATCH
        )
        context: dict[str, Any] = {"files": files.order_by("-pk")[:MOST_OFFERED]}
        return render_page(request, membership, "portal/batch_file.html", context, tab="batches")
    file = access_file(membership, file_id, USE)
    form = BatchForm(
        request.POST or None, keys=_keys_for(membership, file), initial=_initial(request, file)
    )
    if request.method == "POST" and form.is_valid():
        check_not_suspended(membership.organization)
        if (answer := _create(request, membership, file, form)) is not None:
            return answer
    context = {"form": form, "file": file}
    status = 400 if form.errors else 200
    return render_page(
        request, membership, "portal/batch_create.html", context, tab="batches", status=status
    )


def _keys_for(membership: Membership, file: File) -> list[ApiKey]:
    """Keys of the file's project whose secrets this member could hold, and that work."""
    now = timezone.now()
    keys = selectors.get_api_keys(membership.organization, projects=[file.project_id], state="live")
    return [
        key
        for key in keys.order_by("-pk")[:MOST_OFFERED]
        if may_mint(membership, key.kind, key.project) and status_of(key, now).is_usable
    ]


def _initial(request: HttpRequest, file: File) -> dict[str, str]:
    try:
        endpoint = endpoint_of_file(file)
    except InferenceError:  # the batch is told of it soon enough
        endpoint = ""
    minted = new_key_form_id(user_of(request), file.organization)
    return {"endpoint": endpoint or actions.ENDPOINTS[0], "form_id": minted}


def _create(
    request: HttpRequest, membership: Membership, file: File, form: BatchForm
) -> HttpResponse | None:
    """None: the form says why not."""
    organization, user = membership.organization, user_of(request)
    public_id = ""
    try:
        public_id = read_batch_form_id(form.cleaned_data["form_id"], user, organization)
        actions.create_batch(
            file.project,
            api_key=form.cleaned_data["key"],
            input_file=file.public_id,
            endpoint=form.cleaned_data["endpoint"],
            public_id=public_id,
            acting_user=user,
            address=address_of(request),
        )
    except AlreadyDone:
        messages.warning(request, gettext("This form was sent twice; it made one batch."))
    except (TenantError, InferenceError) as error:
        add_refusal(form, error.message, None)
        return None
    else:
        messages.success(request, gettext("The batch is on its way."))
    return redirect("batch", organization.public_id, public_id)


def access_batch(membership: Membership, batch_id: str, permission: str) -> Batch:
    batch = access_organization_batch(membership.organization, batch_id)
    access.check_permission(membership, permission, batch.project)
    return batch


@require_safe
@organization_page("organization.read")
def show_batch(request: HttpRequest, membership: Membership, batch_id: str) -> HttpResponse:
    batch = access_batch(membership, batch_id, SEE)
    return render_page(
        request, membership, "portal/batch.html", _shown(membership, batch), tab="batches"
    )


@require_safe
@organization_page("organization.read")
def show_progress(request: HttpRequest, membership: Membership, batch_id: str) -> HttpResponse:
    """What changes of the page while it runs, for the script that asks again."""
    batch = access_batch(membership, batch_id, SEE)
    context = _shown(membership, batch) | {"organization": membership.organization}
    return render(request, "portal/_batch_progress.html", context)


def _shown(membership: Membership, batch: Batch) -> dict[str, Any]:
    may_use = access.is_allowed(membership, USE, batch.project)
    failures: list[FailedLine] = []
    trouble = ""
    if may_use:
        try:
            failures = get_failed_lines(batch)
        except InferenceError as error:
            trouble = error.message
    return {
        "batch": batch,
        "status": STATUSES[batch.status],
        "finished": batch.completed + batch.failed,
        "may_use": may_use,
        "may_cancel": may_use and batch.status in actions.CANCELLABLE,
        "failures": failures,
        "trouble": trouble,
        "files": _files_of(membership, batch),
    }


def _files_of(membership: Membership, batch: Batch) -> dict[str, File]:
    """Those that are still there, by ``input``, ``output``, ``error``."""
    asked = {"input": batch.input_file, "output": batch.output_file, "error": batch.error_file}
    names = [name for name in asked.values() if name]
    rows = get_organization_files(membership.organization, projects=[batch.project_id])
    found = {file.public_id: file for file in rows.filter(public_id__in=names)}
    return {name: found[file] for name, file in asked.items() if file in found}


@require_http_methods(["GET", "HEAD", "POST"])
@organization_page("organization.read")
def cancel_batch(request: HttpRequest, membership: Membership, batch_id: str) -> HttpResponse:
    batch = access_batch(membership, batch_id, USE)
    ids = (membership.organization.public_id, batch.public_id)
    if request.method == "POST":
        try:
            actions.cancel_batch(batch, acting_user=user_of(request), address=address_of(request))
        except TenantError as error:
            return confirmations.refuse(request, error, "batch", *ids)
        messages.success(request, gettext("The batch is being cancelled."))
        return redirect("batch", *ids)
    asked = Confirmation(
        title=gettext("Cancel this batch?"),
        text=gettext(
            "What is finished stays, is billed and comes into its files. What runs is stopped, "
            "and what waits never runs. This cannot be undone."
        ),
        button=gettext("Cancel batch"),
        back=reverse("batch", args=ids),
        facts={gettext("Batch"): batch.public_id},
        keep=gettext("Let it run"),
    )
    return confirmations.ask(request, membership, asked, tab="batches")
