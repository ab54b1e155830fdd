"""What an organization bought."""

from __future__ import annotations

from typing import ClassVar

from django.db import models

from tenants.models.limits import LimitFields


class Plan(LimitFields):
    """Limits of every organization that has it, and its share of a busy engine."""

    slug = models.SlugField(unique=True)
    name = models.CharField(max_length=80)
    fair_share_weight = models.PositiveSmallIntegerField(
        default=1, help_text="Share of a busy replica relative to other organizations."
    )
    is_default = models.BooleanField(default=False, help_text="Given to new organizations.")
    allows_custom_limits = models.BooleanField(
        default=False, help_text="Organizations may have limits of their own in place of these."
    )
    stored_bytes = models.PositiveBigIntegerField(
        null=True, blank=True, help_text="Bytes of files that an organization may store."
    )
    batch_tokens = models.PositiveBigIntegerField(
        null=True,
        blank=True,
        help_text="Prompt tokens of one model that an organization's batches may have in line.",
    )
    allows_priority = models.BooleanField(
        default=False,
        db_default=False,
        help_text="Requests may name the service tier priority, at its price.",
    )
    allows_dedicated_capacity = models.BooleanField(
        default=False, help_text="Deployments may be kept for organizations of this plan."
    )

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


class PlanModelLimit(LimitFields):
    """What an organization of this plan may use of one model, beside the plan's own limits."""

    plan = models.ForeignKey(Plan, on_delete=models.CASCADE, related_name="model_limits")
    model = models.CharField(max_length=120, help_text="The model's public name.")

    class Meta:
        ordering: ClassVar = ["model"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["plan", "model"], name="tenants_plan_model_once")
        ]

    def __str__(self) -> str:
        return f"{self.plan}: {self.model}"
