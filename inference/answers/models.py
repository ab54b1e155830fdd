"""One kept answer of one project, and the work that is still to make one."""

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


class BackgroundResponse(models.Model):
    """A response that is made without a client: there until it has ended.

    Its runner holds it by a lease and a fencing token. What it ends as lies in ``answer``,
    which is gone if somebody deleted it meanwhile.
    """

    class State(models.TextChoices):
        QUEUED = "queued", "Queued"
        RUNNING = "running", "Running"
        CANCELLING = "cancelling", "Being stopped"

    public_id = models.CharField(max_length=64, unique=True, editable=False)
    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, related_name="+", db_index=False
    )
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="+", db_index=False)
    api_key = models.ForeignKey(ApiKey, on_delete=models.CASCADE, related_name="+", db_index=False)
    answer = models.OneToOneField(
        StoredAnswer, on_delete=models.SET_NULL, null=True, related_name="background"
    )
    request = models.BinaryField(help_text="Encrypted: the body, and what its headers asked for.")
    has_log = models.BooleanField(
        default=False, help_text="Whether its events can be read as a stream."
    )
    state = models.CharField(max_length=10, choices=State.choices, default=State.QUEUED)
    attempts = models.PositiveSmallIntegerField(default=0, db_default=0)
    fencing_token = models.PositiveIntegerField(default=0, db_default=0)
    lease_owner = models.CharField(max_length=80, blank=True, db_default="")
    lease_expires_at = models.DateTimeField(null=True)
    run_after = models.DateTimeField(db_default=Now())
    created_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField()

    objects = TenantManager()

    class Meta:
        ordering: ClassVar = ["pk"]
        indexes: ClassVar = [
            models.Index(fields=["organization", "id"], name="inference_background_of"),
        ]

    def __str__(self) -> str:
        return self.public_id
