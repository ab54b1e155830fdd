"""Whom an organization wants told of what happened, what happened, and whether it was told."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models.functions import Now

from tenants import identifiers
from tenants.managers import TenantManager
from tenants.models.organizations import Organization, Project
from tenants.models.people import User


class WebhookEndpoint(models.Model):
    """A URL of the organization's own that is sent the events in ``events``.

    Secrets are encrypted. After a rotation the one before signs too until
    ``previous_expires_at``. An endpoint that fails is *paused* by turns, longer each time,
    and disabled when nothing succeeded for days.
    """

    class Disabled(models.TextChoices):
        NOT = "", "Enabled"
        BY_MEMBER = "member", "Disabled"
        BY_FAILURES = "failures", "Disabled: every delivery failed"

    public_id = models.CharField(
        max_length=24, unique=True, default=identifiers.new_webhook_id, editable=False
    )
    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, related_name="webhook_endpoints"
    )
    url = models.CharField(max_length=500)
    description = models.CharField(max_length=200, blank=True)
    events = models.JSONField(default=list)
    disabled = models.CharField(max_length=10, choices=Disabled.choices, blank=True)
    secret_encrypted = models.BinaryField(editable=False)
    previous_secret_encrypted = models.BinaryField(null=True, editable=False)
    previous_expires_at = models.DateTimeField(null=True)
    rotated_at = models.DateTimeField(null=True)
    failures = models.PositiveIntegerField(default=0, help_text="Since the last success.")
    failing_since = models.DateTimeField(null=True)
    paused_until = models.DateTimeField(null=True)
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(db_default=Now())

    objects = TenantManager()

    class Meta:
        ordering: ClassVar = ["pk"]

    def __str__(self) -> str:
        return self.url

    @property
    def is_enabled(self) -> bool:
        return not self.disabled


class WebhookEvent(models.Model):
    """Something that happened, written in the transaction in which it did."""

    public_id = models.CharField(
        max_length=24, unique=True, default=identifiers.new_event_id, editable=False
    )
    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, related_name="webhook_events"
    )
    project = models.ForeignKey(Project, on_delete=models.SET_NULL, null=True, related_name="+")
    type = models.CharField(max_length=40)
    data = models.JSONField(default=dict, help_text="What is sent as the event's data.")
    created_at = models.DateTimeField(db_default=Now())

    objects = TenantManager()

    class Meta:
        ordering: ClassVar = ["-pk"]
        indexes: ClassVar = [models.Index(fields=["created_at"], name="tenants_event_age")]

    def __str__(self) -> str:
        return f"{self.type} {self.public_id}"


class WebhookDelivery(models.Model):
    """One event on its way to one endpoint; a job of the same identifier carries it."""

    class State(models.TextChoices):
        WAITING = "waiting", "Waiting"
        DELIVERED = "delivered", "Delivered"
        FAILED = "failed", "Failed"
        DROPPED = "dropped", "Not sent"  # the endpoint was disabled, or too much waited for it

    public_id = models.CharField(
        max_length=24, unique=True, default=identifiers.new_delivery_id, editable=False
    )
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="+")
    endpoint = models.ForeignKey(
        WebhookEndpoint, on_delete=models.CASCADE, related_name="deliveries", db_index=False
    )
    event = models.ForeignKey(WebhookEvent, on_delete=models.CASCADE, related_name="deliveries")
    is_replay = models.BooleanField(default=False)
    state = models.CharField(max_length=10, choices=State.choices, default=State.WAITING)
    created_at = models.DateTimeField(db_default=Now())
    next_attempt_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)

    objects = TenantManager()

    class Meta:
        ordering: ClassVar = ["-pk"]
        indexes: ClassVar = [
            models.Index(fields=["endpoint", "-id"], name="tenants_delivery_log"),
            models.Index(
                fields=["endpoint"],
                condition=models.Q(state="waiting"),
                name="tenants_delivery_waiting",
            ),
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["endpoint", "event"],
                condition=models.Q(is_replay=False),
                name="tenants_delivery_once",
            ),
            models.CheckConstraint(
                condition=models.Q(state="waiting", ended_at=None)
                | (~models.Q(state="waiting") & models.Q(ended_at__isnull=False)),
                name="tenants_delivery_ended_at_its_end",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.public_id} {self.state}"


class WebhookAttempt(models.Model):
    """One request of a delivery, and what came back: ``answer`` is its first kilobyte."""

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="+")
    delivery = models.ForeignKey(WebhookDelivery, on_delete=models.CASCADE, related_name="attempts")
    number = models.PositiveSmallIntegerField()
    at = models.DateTimeField(db_default=Now())
    status_code = models.PositiveSmallIntegerField(null=True, help_text="None: no answer came.")
    latency_ms = models.PositiveIntegerField()
    error = models.CharField(max_length=200, blank=True)
    answer = models.TextField(blank=True)

    objects = TenantManager()

    class Meta:
        ordering: ClassVar = ["pk"]

    def __str__(self) -> str:
        return f"{self.number}: {self.status_code or self.error}"
