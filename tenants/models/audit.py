"""The audit trail: append-only, and a chain of hashes for each organization."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils import timezone

from tenants import identifiers
from tenants.managers import TenantManager
from tenants.models.keys import ApiKey
from tenants.models.organizations import Organization
from tenants.models.people import User


class AuditEvent(models.Model):
    """Who did what to which object; the database refuses to change or delete a row.

    A trigger gives each event its ``number`` in its organization's chain and a
    ``hash`` over the one before, the number and ``content``, so that an edited or a
    missing row shows (``tenants.audit_chain``).
    """

    class Actor(models.TextChoices):
        USER = "user", "Member"
        STAFF = "staff", "Staff"
        API_KEY = "api_key", "API key"
        SYSTEM = "system", "The platform"

    public_id = models.CharField(
        max_length=24, unique=True, default=identifiers.new_audit_event_id, editable=False
    )
    at = models.DateTimeField(default=timezone.now, editable=False)
    organization = models.ForeignKey(
        Organization, on_delete=models.PROTECT, null=True, related_name="audit_events"
    )
    actor_type = models.CharField(max_length=8, choices=Actor.choices, default=Actor.SYSTEM)
    acting_user = models.ForeignKey(
        User, on_delete=models.PROTECT, null=True, related_name="audit_events"
    )
    acting_key = models.ForeignKey(ApiKey, on_delete=models.PROTECT, null=True, related_name="+")
    project_id = models.CharField(max_length=24, blank=True)
    action = models.CharField(max_length=60)
    object_type = models.CharField(max_length=40)
    object_id = models.CharField(max_length=60)
    before = models.JSONField(default=dict)
    after = models.JSONField(default=dict)
    address = models.GenericIPAddressField(null=True)
    # Rows from before the chain have neither number nor hash.
    number = models.PositiveBigIntegerField(null=True, editable=False)
    content = models.TextField(blank=True, editable=False)
    previous_hash = models.CharField(max_length=64, blank=True, editable=False)
    hash = models.CharField(max_length=64, blank=True, editable=False)

    objects = TenantManager()

    class Meta:
        ordering: ClassVar = ["-at", "-pk"]
        indexes: ClassVar = [
            models.Index(fields=["organization", "-at"], name="tenants_audit_by_org"),
            models.Index(fields=["organization", "action", "-at"], name="tenants_audit_by_action"),
            models.Index(fields=["object_id", "id"], name="tenants_audit_by_object"),
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["organization", "number"],
                nulls_distinct=False,
                condition=models.Q(number__isnull=False),
                name="tenants_audit_chain_number",
            )
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.object_type} {self.object_id}"


class AuditChain(models.Model):
    """The last link of a chain; 0 is the platform's own, of events without organization."""

    organization_key = models.BigIntegerField(primary_key=True)
    number = models.PositiveBigIntegerField()
    hash = models.CharField(max_length=64)

    def __str__(self) -> str:
        return f"chain {self.organization_key} at {self.number}"
