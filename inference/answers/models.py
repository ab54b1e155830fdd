"""One kept answer of one project."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models.functions import Now

from tenants.managers import TenantManager
from tenants.models import ApiKey, Organization, Project


class StoredAnswer(models.Model):
    """``content`` is encrypted JSON: what was asked and what was answered."""

    class Kind(models.TextChoices):
        RESPONSE = "response", "Response"
        CHAT = "chat.completion", "Chat completion"

    public_id = models.CharField(max_length=64, unique=True, editable=False)
    kind = models.CharField(max_length=16, choices=Kind.choices)
    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, related_name="+", db_index=False
    )
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="+", db_index=False)
    api_key = models.ForeignKey(
        ApiKey, on_delete=models.SET_NULL, null=True, related_name="+", db_index=False
    )
    model = models.CharField(max_length=200)
    # Clients search by it, so it is not encrypted.
    metadata = models.JSONField(null=True, blank=True)
    # By its id and not as a foreign key: a turn tells of one before it that was deleted.
    previous = models.CharField(max_length=64, blank=True)
    content = models.BinaryField()
    created_at = models.DateTimeField(db_default=Now())

    objects = TenantManager()

    class Meta:
        ordering: ClassVar = ["-pk"]
        indexes: ClassVar = [
            models.Index(fields=["project", "kind", "-id"], name="inference_answer_by_project"),
            models.Index(fields=["created_at"], name="inference_answer_by_age"),
        ]

    def __str__(self) -> str:
        return self.public_id
