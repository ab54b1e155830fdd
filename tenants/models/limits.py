"""The limits that a row of any kind may set."""

from __future__ import annotations

from django.db import models


class LimitFields(models.Model):
    """Limits a row may set; null means that this row sets none, 0 that nothing is allowed."""

    requests_per_minute = models.PositiveIntegerField(null=True, blank=True)
    requests_per_hour = models.PositiveIntegerField(null=True, blank=True)
    requests_per_day = models.PositiveIntegerField(null=True, blank=True)
    tokens_per_minute = models.PositiveIntegerField(
        null=True, blank=True, help_text="Prompt tokens plus expected output tokens."
    )
    tokens_per_day = models.PositiveBigIntegerField(null=True, blank=True)
    concurrent_requests = models.PositiveIntegerField(null=True, blank=True)
    monthly_tokens = models.PositiveBigIntegerField(
        null=True, blank=True, help_text="Prompt plus output tokens a calendar month (UTC)."
    )
    monthly_budget_micros = models.PositiveBigIntegerField(
        null=True, blank=True, help_text="Micro-dollars a calendar month (UTC); 1,000,000 is $1."
    )

    class Meta:
        abstract = True
