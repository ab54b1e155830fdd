"""An upload and its parts, for as long as they are not a file."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models.functions import Now

from inference.files.models import File
from tenants import identifiers
from tenants.managers import TenantManager
from tenants.models import ApiKey, Organization, Project


def new_upload_id() -> str:
    return "upload_" + identifiers.random_text(24)


def new_part_id() -> str:
    return "part_" + identifiers.random_text(24)


class Upload(models.Model):
    """``file`` holds the quota from the beginning on, and is shown once all is in it."""

    class State(models.TextChoices):
        PENDING = "pending", "Pending"
        COMPLETED = "completed", "Completed"
        CANCELLED = "cancelled", "Cancelled"

    public_id = models.CharField(max_length=32, unique=True, default=new_upload_id, editable=False)
    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, related_name="+", db_index=False
    )
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="+", db_index=False)
    api_key = models.ForeignKey(
        ApiKey, on_delete=models.SET_NULL, null=True, related_name="+", db_index=False
    )
    file = models.ForeignKey(File, on_delete=models.SET_NULL, null=True, related_name="+")
    filename = models.CharField(max_length=255)
    mime_type = models.CharField(max_length=255, blank=True)
    purpose = models.CharField(max_length=16, choices=File.Purpose.choices)
    bytes = models.PositiveBigIntegerField(help_text="Of the whole file, as announced.")
    file_kept_for_s = models.PositiveIntegerField(null=True, blank=True)
    state = models.CharField(max_length=10, choices=State.choices, default=State.PENDING)
    # Of all parts that are there or coming, also those that the file will not have.
    part_bytes = models.PositiveBigIntegerField(default=0)
    part_count = models.PositiveIntegerField(default=0)
    # Public ids in the order of the file, once it was put together.
    part_ids = models.JSONField(default=list, blank=True)
    # While somebody puts it together; who that is, ``file`` says.
    leased_until = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField()

    objects = TenantManager()

    class Meta:
        ordering: ClassVar = ["-pk"]
        indexes: ClassVar = [
            models.Index(fields=["organization", "state"], name="inference_upload_of"),
            models.Index(fields=["expires_at"], name="inference_upload_expiry"),
        ]

    def __str__(self) -> str:
        return f"{self.filename} {self.public_id}"


class UploadPart(models.Model):
    """The row is there before the object is, and until it is gone."""

    public_id = models.CharField(max_length=32, unique=True, default=new_part_id, editable=False)
    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, related_name="+", db_index=False
    )
    upload = models.ForeignKey(Upload, on_delete=models.CASCADE, related_name="parts")
    bytes = models.PositiveBigIntegerField(help_text="While it comes, the most that it can be.")
    is_stored = models.BooleanField(default=False)
    created_at = models.DateTimeField(db_default=Now())

    objects = TenantManager()

    class Meta:
        ordering: ClassVar = ["pk"]

    def __str__(self) -> str:
        return self.public_id

    @property
    def object_key(self) -> str:
        return f"{self.organization_id}/{self.public_id}"
