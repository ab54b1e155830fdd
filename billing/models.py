"""How much: usage events, versioned prices, and the double-entry ledger.

Money is integer micro-dollars (1,000,000 = one US dollar). Rows of
``UsageEvent``, ``LedgerTransaction`` and ``LedgerEntry`` are never changed or
deleted; PostgreSQL triggers refuse it, and refuse a transaction that does not
sum to zero (migration 0002).
"""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils import timezone

from tenants.models import ApiKey, Organization, Project


class Price(models.Model):
    """Price of one model from a moment on; a new price is a new row."""

    model = models.SlugField(max_length=120, help_text="The model's public name.")
    effective_from = models.DateTimeField(default=timezone.now)
    input_micros_per_million = models.PositiveBigIntegerField(
        help_text="Micro-dollars for a million prompt tokens."
    )
    cached_input_micros_per_million = models.PositiveBigIntegerField(
        help_text="The same for prompt tokens found in a cache."
    )
    output_micros_per_million = models.PositiveBigIntegerField(
        help_text="Micro-dollars for a million output tokens."
    )

    class Meta:
        ordering: ClassVar = ["model", "-effective_from"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["model", "effective_from"], name="billing_price_moment")
        ]

    def __str__(self) -> str:
        return f"{self.model} from {self.effective_from:%Y-%m-%d %H:%M}"


class UsageEvent(models.Model):
    """What one request used; unique by request id, so that it counts once."""

    class Status(models.TextChoices):
        COMPLETED = "completed", "Completed"
        CANCELLED = "cancelled", "Client went away"
        FAILED = "failed", "Failed"
        BLOCKED = "blocked", "Blocked by screening"

    class Source(models.TextChoices):
        GATEWAY = "gateway", "The gateway that served the client"
        WORKER = "worker", "The engine worker, because the gateway died"

    request_id = models.CharField(max_length=40, unique=True)
    organization = models.ForeignKey(
        Organization, on_delete=models.PROTECT, related_name="usage_events"
    )
    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="+")
    api_key = models.ForeignKey(ApiKey, on_delete=models.PROTECT, null=True, related_name="+")
    model = models.CharField(max_length=120)
    endpoint = models.CharField(max_length=40)
    status = models.CharField(max_length=10, choices=Status.choices)
    source = models.CharField(max_length=8, choices=Source.choices)
    prompt_tokens = models.PositiveIntegerField()
    cached_tokens = models.PositiveIntegerField(default=0)
    completion_tokens = models.PositiveIntegerField()
    started_at = models.DateTimeField()
    time_to_first_token_ms = models.PositiveIntegerField(null=True)
    duration_ms = models.PositiveIntegerField()
    replica = models.CharField(max_length=80, blank=True)
    cache_hit = models.BooleanField(default=False)
    flags = models.JSONField(default=list, help_text="Screening categories that were found.")
    price = models.ForeignKey(Price, on_delete=models.PROTECT, null=True, related_name="+")
    cost_micros = models.PositiveBigIntegerField()
    recorded_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering: ClassVar = ["-started_at", "-pk"]
        indexes: ClassVar = [
            models.Index(fields=["organization", "-started_at"], name="billing_usage_by_org"),
            models.Index(fields=["api_key", "-started_at"], name="billing_usage_by_key"),
        ]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=models.Q(cached_tokens__lte=models.F("prompt_tokens")),
                name="billing_usage_cached_within_prompt",
            )
        ]

    def __str__(self) -> str:
        return self.request_id

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


class LedgerTransaction(models.Model):
    """One posting; ``reference`` (a request id for usage) is unique for its kind."""

    class Kind(models.TextChoices):
        USAGE = "usage", "Usage"

    organization = models.ForeignKey(
        Organization, on_delete=models.PROTECT, related_name="ledger_transactions"
    )
    kind = models.CharField(max_length=12, choices=Kind.choices)
    reference = models.CharField(max_length=60)
    usage_event = models.OneToOneField(
        UsageEvent, on_delete=models.PROTECT, null=True, related_name="ledger_transaction"
    )
    posted_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering: ClassVar = ["-posted_at", "-pk"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["kind", "reference"], name="billing_ledger_once")
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.reference}"


class LedgerEntry(models.Model):
    """One side of a posting; debits are positive, and a transaction sums to zero."""

    class Account(models.TextChoices):
        RECEIVABLE = "receivable", "Receivable from the organization"
        REVENUE = "revenue", "Revenue"

    transaction = models.ForeignKey(
        LedgerTransaction, on_delete=models.PROTECT, related_name="entries"
    )
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+")
    account = models.CharField(max_length=12, choices=Account.choices)
    amount_micros = models.BigIntegerField()

    class Meta:
        verbose_name_plural = "ledger entries"
        indexes: ClassVar = [
            models.Index(fields=["organization", "account"], name="billing_entry_by_account")
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["transaction", "account"], name="billing_entry_side")
        ]

    def __str__(self) -> str:
        return f"{self.account} {self.amount_micros}"
