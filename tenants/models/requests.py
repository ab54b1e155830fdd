"""Requests of the management API that must not happen twice."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils import timezone

from tenants.managers import TenantManager
from tenants.models.organizations import Organization


class IdempotentRequest(models.Model):
    """The first answer to an ``Idempotency-Key``; empty while that request runs."""

    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, related_name="+", db_index=False
    )
    # Whose key it is: two API keys may choose the same text.
    caller = models.CharField(max_length=40)
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64, help_text="SHA-256 of method, path and body.")
    status = models.PositiveSmallIntegerField(null=True)
    body = models.BinaryField(null=True)
    created_at = models.DateTimeField(default=timezone.now, db_index=True)

    objects = TenantManager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["organization", "caller", "key"], name="tenants_idempotent_once"
            )
        ]

    def __str__(self) -> str:
        return self.key
