"""The secrets that programs present, and the programs that own some of them."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils import timezone

from tenants import identifiers
from tenants.managers import KeyManager, TenantManager
from tenants.models.limits import LimitFields
from tenants.models.organizations import Organization, Project
from tenants.models.people import User


class ServiceAccount(models.Model):
    """A program of a project: its keys outlive the people who made them."""

    public_id = models.CharField(
        max_length=24, unique=True, default=identifiers.new_service_account_id, editable=False
    )
    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, related_name="service_accounts"
    )
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="service_accounts")
    name = models.CharField(max_length=120)
    created_at = models.DateTimeField(auto_now_add=True)
    deleted_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = TenantManager()

    class Meta:
        ordering: ClassVar = ["created_at", "pk"]

    def __str__(self) -> str:
        return self.name


class ApiKey(LimitFields):
    """A secret that a program presents; only its HMAC-SHA-256 is stored.

    Rotation gives the same row a new secret; the one before works until
    ``previous_expires_at``.
    """

    class Kind(models.TextChoices):
        PROJECT = "project", "Project key"
        SERVICE_ACCOUNT = "service_account", "Service account key"
        ADMIN = "admin", "Admin key: manages, cannot infer"

    public_id = models.CharField(
        max_length=24, unique=True, default=identifiers.new_key_id, editable=False
    )
    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, related_name="api_keys"
    )
    kind = models.CharField(max_length=16, choices=Kind.choices, default=Kind.PROJECT)
    project = models.ForeignKey(
        Project, on_delete=models.CASCADE, null=True, blank=True, related_name="api_keys"
    )
    service_account = models.ForeignKey(
        ServiceAccount, on_delete=models.CASCADE, null=True, blank=True, related_name="api_keys"
    )
    created_by = models.ForeignKey(
        User, on_delete=models.SET_NULL, null=True, related_name="created_keys"
    )
    name = models.CharField(max_length=120)
    scopes = models.JSONField(
        default=list, blank=True, help_text="What it may do; empty means all that its kind may."
    )
    allowed_models = models.JSONField(
        default=list, blank=True, help_text="Public names; empty allows every model."
    )
    allowed_networks = models.JSONField(
        default=list, blank=True, help_text="Addresses or CIDR networks; empty allows every one."
    )
    lookup = models.CharField(max_length=16, unique=True, editable=False)
    secret_hmac = models.BinaryField(max_length=32, editable=False)
    last_four = models.CharField(max_length=4, editable=False)
    previous_lookup = models.CharField(max_length=16, unique=True, null=True, editable=False)
    previous_secret_hmac = models.BinaryField(max_length=32, null=True, editable=False)
    previous_expires_at = models.DateTimeField(null=True, editable=False)
    rotated_at = models.DateTimeField(null=True, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    expiry_warned_at = models.DateTimeField(null=True, editable=False)
    suspended_at = models.DateTimeField(null=True, blank=True)
    suspended_reason = models.CharField(max_length=200, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = KeyManager()

    class Meta:
        verbose_name = "API key"
        ordering: ClassVar = ["-created_at", "-pk"]
        indexes: ClassVar = [
            models.Index(fields=["organization", "-created_at"], name="tenants_key_by_org"),
            # For the daily look at what expires soon; most keys have no expiry.
            models.Index(
                fields=["expires_at"],
                condition=models.Q(expires_at__isnull=False, revoked_at=None),
                name="tenants_key_by_expiry",
            ),
        ]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=models.Q(kind="admin", project=None)
                | (~models.Q(kind="admin") & models.Q(project__isnull=False)),
                name="tenants_key_of_a_project",
            ),
            models.CheckConstraint(
                condition=models.Q(kind="service_account", service_account__isnull=False)
                | (~models.Q(kind="service_account") & models.Q(service_account=None)),
                name="tenants_key_of_an_account",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} (…{self.last_four})"

    @property
    def is_live(self) -> bool:
        if self.revoked_at is not None or self.suspended_at is not None:
            return False
        return self.expires_at is None or self.expires_at > timezone.now()


class ApiKeyAddress(models.Model):
    """An address that a key was used from, so that a new one is noticed."""

    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, related_name="+", db_index=False
    )
    api_key = models.ForeignKey(ApiKey, on_delete=models.CASCADE, related_name="addresses")
    address = models.GenericIPAddressField()
    first_seen_at = models.DateTimeField(default=timezone.now)

    objects = TenantManager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["api_key", "address"], name="tenants_key_address_once")
        ]

    def __str__(self) -> str:
        return f"{self.address} of {self.api_key}"
