"""A stored file of one project."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models.functions import Now

from tenants import identifiers
from tenants.managers import TenantManager
from tenants.models import ApiKey, Organization, Project


def new_file_id() -> str:
    return "file-" + identifiers.random_text(24)


class FileQuerySet(models.QuerySet["File"]):
    def shown(self) -> FileQuerySet:
        """What clients see: received whole, neither deleted nor expired."""
        return self.filter(state=File.State.STORED, deleted_at=None).exclude(expires_at__lte=Now())


class File(models.Model):
    """The row is there before the first byte is stored, and until the last one is gone, so
    that no object lies in the store without one (``inference.files.sweep``)."""

    class Purpose(models.TextChoices):
        BATCH = "batch", "Requests of a batch"
        BATCH_OUTPUT = "batch_output", "Results of a batch"

    class State(models.TextChoices):
        RECEIVING = "receiving", "Being received"
        STORED = "stored", "Stored"

    public_id = models.CharField(max_length=32, unique=True, default=new_file_id, editable=False)
    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, related_name="files", db_index=False
    )
    project = models.ForeignKey(
        Project, on_delete=models.CASCADE, related_name="files", db_index=False
    )
    api_key = models.ForeignKey(
        ApiKey, on_delete=models.SET_NULL, null=True, related_name="+", db_index=False
    )
    filename = models.CharField(max_length=255, blank=True)
    purpose = models.CharField(max_length=16, choices=Purpose.choices, default=Purpose.BATCH)
    state = models.CharField(max_length=10, choices=State.choices, default=State.RECEIVING)
    # While it is received: the most that it may become, which the quota holds.
    bytes = models.PositiveBigIntegerField(default=0)
    sha256 = models.CharField(max_length=64, blank=True)
    created_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField(null=True, blank=True)
    deleted_at = models.DateTimeField(null=True, blank=True)

    objects = TenantManager.from_queryset(FileQuerySet)()

    class Meta:
        ordering: ClassVar = ["-pk"]
        indexes: ClassVar = [
            models.Index(fields=["project", "-id"], name="inference_file_by_project"),
            # Covering: what an organization stores is summed from the index alone.
            models.Index(
                fields=["organization"],
                include=["bytes"],
                condition=models.Q(deleted_at=None),
                name="inference_file_quota",
            ),
            models.Index(
                fields=["expires_at"],
                condition=models.Q(expires_at__isnull=False),
                name="inference_file_expiry",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.filename} {self.public_id}"

    @property
    def object_key(self) -> str:
        return f"{self.organization_id}/{self.public_id}"
