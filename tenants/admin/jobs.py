"""Durable jobs: watched while they run, cancelled, tried again."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from unfold.decorators import action, display

from tenants import jobs
from tenants.models import Job
from tenants.staff import ReadOnlyAdmin, address_of, confirm_page, staff_user

# A list of what runs shows its progress; other lists stay still, so that nothing jumps away
# under whoever reads them.
REFRESH_S = 5


@admin.register(Job)
class JobAdmin(ReadOnlyAdmin):
    """No secret is shown: ``sealed`` is not even read."""

    list_display = (
        "public_id", "kind", "organization", "shown_state", "progress", "tries", "run_after",
        "finished_at", "short_error",
    )  # fmt: skip
    list_select_related = ("organization",)
    list_filter = ("state", "priority", ("run_after", admin.DateFieldListFilter))
    search_fields = ("public_id", "kind")
    search_exactly = ("kind",)
    search_person = "created_by"
    search_help_text = "A job_… or org_… identifier, a kind, the address of who asked for it"
    ordering = ("-pk",)
    sortable_by = ()
    fields = (
        "public_id", "kind", "effect_key", "organization", "project", "created_by", "payload",
        "shown_state", "priority", "progress", "tries", "fencing_token", "lease_owner",
        "lease_expires_at", "run_after", "created_at", "started_at", "finished_at", "result",
        "error",
    )  # fmt: skip
    readonly_fields = fields
    actions_detail = ("cancel", "retry")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Job]:
        rows = super().get_queryset(request).defer("sealed")
        return rows.select_related("organization", "project", "created_by")

    def changelist_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        response = super().changelist_view(request, *args, **kwargs)
        if request.GET.get("state__exact") == Job.State.RUNNING:
            response.headers["Refresh"] = str(REFRESH_S)
        return response

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        """Only what would change something."""
        job = self.get_object(request, str(object_id))
        if job is None or job.state in (Job.State.SUCCEEDED, Job.State.CANCELLED):
            return []
        offered = "retry" if job.state == Job.State.FAILED else "cancel"
        found = super().get_actions_detail(request, object_id)
        return [each for each in found if each.path == offered]

    @display(
        description="State",
        label={
            "Waiting": "info",
            "Running": "info",
            "Done": "success",
            "Failed": "danger",
            "Cancelled": "warning",
        },
    )
    def shown_state(self, job: Job) -> str:
        return str(Job.State(job.state).label)

    @display(description="Progress")
    def progress(self, job: Job) -> str:
        if job.progress_percent is not None:
            return f"{job.progress_done:,} of {job.progress_total:,} ({job.progress_percent} %)"
        return f"{job.progress_done:,}" if job.progress_done else "–"

    @display(description="Attempts")
    def tries(self, job: Job) -> str:
        return f"{job.attempts} of {job.max_attempts}"

    @display(description="Error")
    def short_error(self, job: Job) -> str:
        return job.error[:80]

    @action(description="Cancel", url_path="cancel", permissions=["act"])
    def cancel(self, request: HttpRequest, object_id: str) -> HttpResponse:
        def perform(job: Job, _given: dict[str, Any]) -> str:
            jobs.cancel_job(job, acting_user=staff_user(request), address=address_of(request))
            return f"{job} is cancelled."

        return confirm_page(
            self,
            request,
            object_id,
            title="Cancel",
            question="Whoever runs it stops within seconds, and nothing of it is kept.",
            perform=perform,
        )

    @action(description="Try again", url_path="retry", permissions=["act"])
    def retry(self, request: HttpRequest, object_id: str) -> HttpResponse:
        def perform(job: Job, _given: dict[str, Any]) -> str:
            jobs.retry_job(job, acting_user=staff_user(request), address=address_of(request))
            return f"{job} waits for a worker."

        return confirm_page(
            self,
            request,
            object_id,
            title="Try again",
            question="It begins again, with all its attempts.",
            perform=perform,
        )
