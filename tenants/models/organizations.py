"""The product's customers and what they divide their work into."""

from __future__ import annotations

from typing import ClassVar

from django.db import models

from tenants import identifiers
from tenants.managers import TenantManager
from tenants.models.limits import LimitFields
from tenants.models.plans import Plan


class ScreeningPolicy(models.TextChoices):
    ALLOW = "allow", "Allow: do not look"
    FLAG = "flag", "Flag: note the category with the usage"
    BLOCK = "block", "Block: refuse the request or end the answer"


class SemanticCache(models.TextChoices):
    OFF = "off", "Off"
    ASKED = "asked", "For requests that ask for it"
    ALL = "all", "For every request that it fits"


class Organization(LimitFields):
    """A customer. Its own limits, if its plan allows them, stand in place of the plan's."""

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
    # With defaults in the database: a process of the release before inserts without them.
    semantic_cache = models.CharField(
        max_length=8,
        choices=SemanticCache.choices,
        default=SemanticCache.OFF,
        db_default=SemanticCache.OFF,
        help_text="Whether a question may be given the answer to a similar one.",
    )
    semantic_cache_ttl_s = models.PositiveIntegerField(
        default=3_600, db_default=3_600, help_text="Seconds such an answer is kept."
    )
    semantic_cache_threshold = models.FloatField(
        null=True,
        blank=True,
        help_text="Least cosine similarity of two questions that count as one; empty is the "
        "platform's default.",
    )
    answers_kept_days = models.PositiveSmallIntegerField(
        default=30,
        db_default=30,
        help_text="Days for which responses, and completions that ask for it, are kept; 0 keeps "
        "none.",
    )
    is_prepaid = models.BooleanField(
        default=False, help_text="Spends credit that was granted before; refused when it is gone."
    )
    # Everything ever granted, moved by billing in the transaction of the ledger's posting:
    # a copy of the ledger for admission, which must not sum it up for each request.
    credit_granted_micros = models.PositiveBigIntegerField(default=0, editable=False)
    # Its own wish, beside the budget of its plan or contract, which it cannot raise.
    spend_limit_micros = models.PositiveBigIntegerField(
        null=True,
        blank=True,
        help_text="Micro-dollars a calendar month (UTC) that it allows itself to spend.",
    )
    requires_mfa = models.BooleanField(
        default=False, help_text="Members must log in with a second factor to see it."
    )
    created_at = models.DateTimeField(auto_now_add=True)

    objects = TenantManager(organization="pk", user="memberships__user")

    class Meta:
        ordering: ClassVar = ["name", "pk"]
        permissions: ClassVar = [
            ("look_into_organization", "Can look at an organization's portal, changing nothing")
        ]
        indexes: ClassVar = [models.Index(fields=["name", "id"], name="tenants_org_by_name")]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=models.Q(response_cache_ttl_s__lte=86_400),
                name="tenants_org_cache_ttl_within_a_day",
            ),
            models.CheckConstraint(
                condition=models.Q(semantic_cache_ttl_s__range=(60, 86_400)),
                name="tenants_org_semantic_ttl_within_a_day",
            ),
            models.CheckConstraint(
                condition=models.Q(semantic_cache_threshold__isnull=True)
                | models.Q(semantic_cache_threshold__range=(0.5, 1.0)),
                name="tenants_org_semantic_threshold",
            ),
            models.CheckConstraint(
                condition=models.Q(answers_kept_days__lte=365),
                name="tenants_org_answers_within_a_year",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_suspended(self) -> bool:
        return self.suspended_at is not None


class Project(LimitFields):
    """A part of an organization's work with keys, people and limits of its own."""

    public_id = models.CharField(
        max_length=24, unique=True, default=identifiers.new_project_id, editable=False
    )
    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, related_name="projects"
    )
    name = models.CharField(max_length=120)
    allowed_models = models.JSONField(
        default=list, blank=True, help_text="Public names; empty allows every model."
    )
    denied_models = models.JSONField(default=list, blank=True)
    archived_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = TenantManager()

    class Meta:
        ordering: ClassVar = ["name", "pk"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["organization", "name"], name="tenants_project_name")
        ]

    def __str__(self) -> str:
        return self.name


class ProjectModelLimit(LimitFields):
    """What a project may use of one model."""

    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, related_name="+", db_index=False
    )
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="model_limits")
    model = models.CharField(max_length=120, help_text="The model's public name.")

    objects = TenantManager()

    class Meta:
        ordering: ClassVar = ["model"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["project", "model"], name="tenants_project_model_once")
        ]

    def __str__(self) -> str:
        return f"{self.project}: {self.model}"
