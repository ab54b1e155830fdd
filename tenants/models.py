"""Who: users, plans, organizations, projects, memberships, API keys, audit events."""

from __future__ import annotations

from typing import ClassVar

from django.contrib.auth.models import AbstractBaseUser, BaseUserManager, PermissionsMixin
from django.db import models
from django.utils import timezone

from tenants import identifiers


class UserManager(BaseUserManager["User"]):
    def create_user(self, email: str, password: str | None = None, **fields: object) -> User:
        user = self.model(email=self.normalize_email(email).lower(), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: object) -> User:
        return self.create_user(email, password, is_staff=True, is_superuser=True, **fields)

    def get_by_natural_key(self, username: str | None) -> User:
        return self.get(email=(username or "").lower())


class User(AbstractBaseUser, PermissionsMixin):
    """A person; the e-mail address, kept in lower case, is the log-in name."""

    email = models.EmailField(unique=True)
    name = models.CharField(max_length=120, blank=True)
    is_staff = models.BooleanField(default=False, help_text="May use the staff admin.")
    is_active = models.BooleanField(default=True)
    date_joined = models.DateTimeField(default=timezone.now, editable=False)

    objects: ClassVar[UserManager] = UserManager()

    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    def __str__(self) -> str:
        return self.email


class LimitFields(models.Model):
    """Limits a row may set; null means that this row sets none."""

    requests_per_minute = models.PositiveIntegerField(null=True, blank=True)
    tokens_per_minute = models.PositiveIntegerField(
        null=True, blank=True, help_text="Prompt tokens plus expected output tokens."
    )
    concurrent_requests = models.PositiveIntegerField(null=True, blank=True)
    monthly_tokens = models.PositiveBigIntegerField(
        null=True, blank=True, help_text="Prompt plus output tokens a calendar month (UTC)."
    )

    class Meta:
        abstract = True


class Plan(LimitFields):
    """What an organization bought: its limits and its share of a busy engine."""

    slug = models.SlugField(unique=True)
    name = models.CharField(max_length=80)
    fair_share_weight = models.PositiveSmallIntegerField(
        default=1, help_text="Share of a busy replica relative to other organizations."
    )
    is_default = models.BooleanField(default=False, help_text="Given to new organizations.")

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["is_default"],
                condition=models.Q(is_default=True),
                name="tenants_plan_one_default",
            ),
            models.CheckConstraint(
                condition=models.Q(fair_share_weight__gte=1), name="tenants_plan_weight_positive"
            ),
        ]

    def __str__(self) -> str:
        return self.name


class ScreeningPolicy(models.TextChoices):
    ALLOW = "allow", "Allow: do not look"
    FLAG = "flag", "Flag: note the category with the usage"
    BLOCK = "block", "Block: refuse the request or end the answer"


class Organization(models.Model):
    public_id = models.CharField(
        max_length=24, unique=True, default=identifiers.new_organization_id, editable=False
    )
    name = models.CharField(max_length=120)
    plan = models.ForeignKey(Plan, on_delete=models.PROTECT, related_name="organizations")
    suspended_at = models.DateTimeField(null=True, blank=True)
    suspended_reason = models.CharField(max_length=200, blank=True)
    region = models.CharField(
        max_length=40, blank=True, help_text="Preferred region of replicas; empty means any."
    )
    data_residency = models.BooleanField(
        default=False, help_text="Run requests only in the preferred region."
    )
    screening_policy = models.CharField(
        max_length=8, choices=ScreeningPolicy.choices, default=ScreeningPolicy.FLAG
    )
    response_cache_ttl_s = models.PositiveIntegerField(
        default=0,
        help_text="Seconds an exact answer to a deterministic request is kept; 0 turns it off.",
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering: ClassVar = ["name", "pk"]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=models.Q(response_cache_ttl_s__lte=86_400),
                name="tenants_org_cache_ttl_within_a_day",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_suspended(self) -> bool:
        return self.suspended_at is not None


class Project(models.Model):
    public_id = models.CharField(
        max_length=24, unique=True, default=identifiers.new_project_id, editable=False
    )
    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, related_name="projects"
    )
    name = models.CharField(max_length=120)
    archived_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering: ClassVar = ["name", "pk"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["organization", "name"], name="tenants_project_name")
        ]

    def __str__(self) -> str:
        return self.name


class Role(models.TextChoices):
    OWNER = "owner", "Owner"
    ADMIN = "admin", "Admin"
    BILLING = "billing", "Billing"
    DEVELOPER = "developer", "Developer"
    VIEWER = "viewer", "Viewer"


class Membership(models.Model):
    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, related_name="memberships"
    )
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=12, choices=Role.choices)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["organization", "user"], name="tenants_membership_once")
        ]

    def __str__(self) -> str:
        return f"{self.user} in {self.organization} ({self.role})"


class ApiKey(LimitFields):
    """A secret that a program presents; only its HMAC-SHA-256 is stored."""

    public_id = models.CharField(
        max_length=24, unique=True, default=identifiers.new_key_id, editable=False
    )
    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, related_name="api_keys"
    )
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="api_keys")
    created_by = models.ForeignKey(
        User, on_delete=models.SET_NULL, null=True, related_name="created_keys"
    )
    name = models.CharField(max_length=120)
    lookup = models.CharField(max_length=16, unique=True, editable=False)
    secret_hmac = models.BinaryField(max_length=32, editable=False)
    last_four = models.CharField(max_length=4, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name = "API key"
        ordering: ClassVar = ["-created_at", "-pk"]
        indexes: ClassVar = [
            models.Index(fields=["organization", "-created_at"], name="tenants_key_by_org")
        ]

    def __str__(self) -> str:
        return f"{self.name} (…{self.last_four})"

    @property
    def is_live(self) -> bool:
        if self.revoked_at is not None:
            return False
        return self.expires_at is None or self.expires_at > timezone.now()


class AuditEvent(models.Model):
    """Who did what to which object; the database refuses to change or delete a row."""

    at = models.DateTimeField(default=timezone.now, editable=False)
    organization = models.ForeignKey(
        Organization, on_delete=models.PROTECT, null=True, related_name="audit_events"
    )
    acting_user = models.ForeignKey(
        User, on_delete=models.PROTECT, null=True, related_name="audit_events"
    )
    action = models.CharField(max_length=60)
    object_type = models.CharField(max_length=40)
    object_id = models.CharField(max_length=60)
    before = models.JSONField(default=dict)
    after = models.JSONField(default=dict)
    address = models.GenericIPAddressField(null=True)

    class Meta:
        ordering: ClassVar = ["-at", "-pk"]
        indexes: ClassVar = [
            models.Index(fields=["organization", "-at"], name="tenants_audit_by_org")
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.object_type} {self.object_id}"
