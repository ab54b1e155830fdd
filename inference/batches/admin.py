"""Staff look at files and batches, never into them."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat
from unfold.decorators import action, display

from inference.batches.actions import cancel_batch
from inference.batches.models import Batch
from inference.batches.selectors import progress_percent
from inference.files.models import File
from tenants.staff import ReadOnlyAdmin, address_of, confirm_page, staff_user


@admin.register(Batch)
class BatchPage(ReadOnlyAdmin):
    list_display = (
        "public_id", "organization", "shown_status", "endpoint", "model", "progress",
        "failed", "created_at",
    )  # fmt: skip
    list_select_related = ("organization",)
    list_filter = ("status",)
    search_fields = ("public_id",)
    search_help_text = "A batch_… or org_… identifier"
    ordering = ("-pk",)
    sortable_by = ()
    fields = (
        "public_id", "organization", "project", "api_key", "shown_status", "endpoint", "model",
        "input_file", "output_file", "error_file", "errors", "progress", "total", "completed",
        "failed", "tokens_enqueued", "input_tokens", "cached_tokens", "output_tokens",
        "created_at", "in_progress_at", "finalizing_at", "cancelling_at", "ended_at", "expires_at",
    )  # fmt: skip
    readonly_fields = fields
    actions_detail = ("cancel",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Batch]:
        return super().get_queryset(request).select_related("organization", "project", "api_key")

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        """Only what would change something."""
        batch = self.get_object(request, str(object_id))
        may_cancel = (Batch.Status.VALIDATING, Batch.Status.IN_PROGRESS)
        if batch is None or batch.status not in may_cancel:
            return []
        return list(super().get_actions_detail(request, object_id))

    @display(
        description="Status",
        label={
            "In progress": "info",
            "Completed": "success",
            "Failed": "danger",
            "Expired": "warning",
            "Cancelled": "warning",
        },
    )
    def shown_status(self, batch: Batch) -> str:
        return batch.get_status_display()

    @display(description="Progress")
    def progress(self, batch: Batch) -> str:
        percent = progress_percent(batch)
        return "–" if percent is None else f"{percent} % of {batch.total:,}"

    @action(description="Cancel", url_path="cancel", permissions=["view"])
    def cancel(self, request: HttpRequest, object_id: str) -> Any:
        def perform(batch: Batch, given: dict[str, Any]) -> str:
            cancel_batch(batch, acting_user=staff_user(request), address=address_of(request))
            return f"{batch.public_id} is being cancelled; what is finished stays."

        return confirm_page(
            self,
            request,
            object_id,
            title="Cancel a batch",
            question="Requests that are not finished are not run, and not billed.",
            perform=perform,
        )


@admin.register(File)
class FilePage(ReadOnlyAdmin):
    list_display = (
        "public_id", "organization", "filename", "purpose", "size", "state", "created_at",
        "expires_at", "deleted_at",
    )  # fmt: skip
    list_select_related = ("organization",)
    list_filter = ("purpose", "state")
    search_fields = ("public_id",)
    search_help_text = "A file-… or org_… identifier"
    ordering = ("-pk",)
    sortable_by = ()
    fields = (
        "public_id", "organization", "project", "api_key", "filename", "purpose", "size",
        "sha256", "state", "created_at", "expires_at", "deleted_at",
    )  # fmt: skip
    readonly_fields = fields

    @display(description="Size")
    def size(self, file: File) -> str:
        return filesizeformat(file.bytes)
