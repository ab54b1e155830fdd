"""A batch, and its lines for as long as they are not in a file."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models.functions import Now

from tenants import identifiers
from tenants.managers import TenantManager
from tenants.models import ApiKey, Organization, Project


def new_batch_id() -> str:
    return "batch_" + identifiers.random_text(24)


class Batch(models.Model):
    """Requests of one input file, run in the name of the key that made it."""

    class Status(models.TextChoices):
        VALIDATING = "validating", "Validating"
        FAILED = "failed", "Failed"
        IN_PROGRESS = "in_progress", "In progress"
        FINALIZING = "finalizing", "Finalizing"
        COMPLETED = "completed", "Completed"
        EXPIRED = "expired", "Expired"
        CANCELLING = "cancelling", "Cancelling"
        CANCELLED = "cancelled", "Cancelled"

    OPEN: ClassVar = (
        Status.VALIDATING,
        Status.IN_PROGRESS,
        Status.FINALIZING,
        Status.CANCELLING,
    )

    public_id = models.CharField(max_length=32, unique=True, default=new_batch_id, editable=False)
    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, related_name="batches", db_index=False
    )
    project = models.ForeignKey(
        Project, on_delete=models.CASCADE, related_name="batches", db_index=False
    )
    api_key = models.ForeignKey(ApiKey, on_delete=models.CASCADE, related_name="+", db_index=False)
    # By their ids and not as foreign keys: a batch tells of files that are long deleted.
    input_file = models.CharField(max_length=32)
    output_file = models.CharField(max_length=32, blank=True)
    error_file = models.CharField(max_length=32, blank=True)
    endpoint = models.CharField(max_length=40)
    model = models.CharField(max_length=200, blank=True)
    metadata = models.JSONField(null=True, blank=True)
    output_expires_after_s = models.PositiveIntegerField(null=True, blank=True)
    status = models.CharField(max_length=12, choices=Status.choices, default=Status.VALIDATING)
    # What it becomes once its files are written.
    ends_as = models.CharField(max_length=12, choices=Status.choices, blank=True)
    errors = models.JSONField(default=list, blank=True)
    total = models.PositiveIntegerField(default=0)
    completed = models.PositiveIntegerField(default=0)
    failed = models.PositiveIntegerField(default=0)
    tokens_enqueued = models.PositiveBigIntegerField(
        default=0, help_text="Prompt tokens as estimated when it was validated."
    )
    input_tokens = models.PositiveBigIntegerField(default=0)
    cached_tokens = models.PositiveBigIntegerField(default=0)
    output_tokens = models.PositiveBigIntegerField(default=0)
    created_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField()
    in_progress_at = models.DateTimeField(null=True, blank=True)
    finalizing_at = models.DateTimeField(null=True, blank=True)
    cancelling_at = models.DateTimeField(null=True, blank=True)
    # When it ended, as whatever its status says.
    ended_at = models.DateTimeField(null=True, blank=True)

    objects = TenantManager()

    class Meta:
        verbose_name_plural = "batches"
        ordering: ClassVar = ["-pk"]
        indexes: ClassVar = [
            models.Index(fields=["project", "-id"], name="inference_batch_by_project"),
            models.Index(
                fields=["organization", "model"],
                condition=models.Q(ended_at=None),
                name="inference_batch_open",
            ),
            models.Index(
                fields=["id"],
                condition=models.Q(status="in_progress"),
                name="inference_batch_running",
            ),
        ]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=models.Q(completed__lte=models.F("total") - models.F("failed")),
                name="inference_batch_counts_within_total",
            ),
        ]

    def __str__(self) -> str:
        return self.public_id

    @property
    def is_open(self) -> bool:
        return self.status in self.OPEN


class BatchLine(models.Model):
    """One request: where it lies in the input file, who runs it, and what came of it.

    ``result`` is the line of the output file (state done) or of the error file (failed).
    """

    class State(models.TextChoices):
        WAITING = "waiting", "Waiting"
        LEASED = "leased", "Running"
        DONE = "done", "Done"
        FAILED = "failed", "Failed"

    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, related_name="+", db_index=False
    )
    batch = models.ForeignKey(Batch, on_delete=models.CASCADE, related_name="lines", db_index=False)
    number = models.PositiveIntegerField(help_text="Its place in the input file, from 1.")
    custom_id = models.CharField(max_length=256)
    position = models.PositiveBigIntegerField(help_text="Of its first byte in the file.")
    length = models.PositiveIntegerField()
    state = models.CharField(max_length=8, choices=State.choices, default=State.WAITING)
    attempts = models.PositiveSmallIntegerField(default=0, db_default=0)
    fencing_token = models.PositiveIntegerField(default=0, db_default=0)
    lease_owner = models.CharField(max_length=80, blank=True, db_default="")
    lease_expires_at = models.DateTimeField(null=True)
    run_after = models.DateTimeField(db_default=Now())
    result = models.BinaryField(null=True)

    objects = TenantManager()

    class Meta:
        ordering: ClassVar = ["batch", "number"]
        indexes: ClassVar = [
            models.Index(
                fields=["batch", "number"],
                condition=models.Q(state="waiting"),
                name="inference_line_waiting",
            ),
            models.Index(
                fields=["lease_expires_at"],
                condition=models.Q(state="leased"),
                name="inference_line_leases",
            ),
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["batch", "number"], name="inference_line_once"),
            models.UniqueConstraint(
                fields=["batch", "custom_id"], name="inference_line_custom_id_once"
            ),
        ]

    def __str__(self) -> str:
        return self.custom_id
