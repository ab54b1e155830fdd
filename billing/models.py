"""How much: usage events, versioned prices, and the double-entry ledger.

Money is integer micro-dollars (1,000,000 = one US dollar). Rows of
``UsageEvent``, ``LedgerTransaction``, ``LedgerEntry`` and ``RejectedReport`` are
never changed or deleted, and a ``Price`` is never changed; PostgreSQL triggers
refuse it, and refuse a ledger transaction that does not sum to zero (migration
0002, docs/adr/0010-append-only-tables.md).
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec
from django.contrib.postgres.indexes import BrinIndex
from django.core.validators import MaxValueValidator
from django.db import models
from django.utils import timezone

from tenants import identifiers
from tenants.managers import TenantManager
from tenants.models import ApiKey, Organization, Project

# A million dollars for a million tokens: far above any market price, and low enough
# that the cost of the largest report (intake.MAX_TOKENS) stays far within a bigint.
MAX_RATE_MICROS = 10**12
# Of a foreign key that a trigger of the whole statement checks (migration 0007).
_CHECKED: Any = {"db_constraint": False}
# Ten times the standard price; what is dearer is a typing error.
MAX_TIER_PERCENT = 1_000


def _tier_percent(default: int, what: str) -> models.PositiveSmallIntegerField:
    # 100 in the database: prices made before there were any went by one price for all.
    return models.PositiveSmallIntegerField(
        default=default,
        db_default=100,
        validators=[MaxValueValidator(MAX_TIER_PERCENT)],
        help_text=f"Percent of these prices for {what}.",
    )


class Price(models.Model):
    """Price of one model from a moment on; a new price is a new row."""

    model = models.CharField(max_length=120, help_text="The model's public name.")
    effective_from = models.DateTimeField(default=timezone.now)
    input_micros_per_million = models.PositiveBigIntegerField(
        validators=[MaxValueValidator(MAX_RATE_MICROS)],
        help_text="Micro-dollars for a million prompt tokens.",
    )
    cached_input_micros_per_million = models.PositiveBigIntegerField(
        validators=[MaxValueValidator(MAX_RATE_MICROS)],
        help_text="The same for prompt tokens found in a cache.",
    )
    output_micros_per_million = models.PositiveBigIntegerField(
        validators=[MaxValueValidator(MAX_RATE_MICROS)],
        help_text="Micro-dollars for a million output tokens.",
    )
    priority_percent = _tier_percent(175, "requests of the service tier priority")
    flex_percent = _tier_percent(50, "requests of the service tier flex")
    batch_percent = _tier_percent(50, "requests of batch files")

    class Meta:
        ordering: ClassVar = ["model", "-effective_from"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["model", "effective_from"], name="billing_price_moment"
            ),
            models.CheckConstraint(
                condition=models.Q(input_micros_per_million__lte=MAX_RATE_MICROS)
                & models.Q(cached_input_micros_per_million__lte=MAX_RATE_MICROS)
                & models.Q(output_micros_per_million__lte=MAX_RATE_MICROS),
                name="billing_price_within_bounds",
            ),
            models.CheckConstraint(
                condition=models.Q(priority_percent__lte=MAX_TIER_PERCENT)
                & models.Q(flex_percent__lte=MAX_TIER_PERCENT)
                & models.Q(batch_percent__lte=MAX_TIER_PERCENT),
                name="billing_price_tiers_within_bounds",
            ),
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

    class Tier(models.TextChoices):
        STANDARD = "standard", "Standard"
        PRIORITY = "priority", "Priority"
        FLEX = "flex", "Flex"
        BATCH = "batch", "Batch file"

    class Source(models.TextChoices):
        GATEWAY = "gateway", "The gateway that served the client"
        WORKER = "worker", "The engine worker, because the gateway died"

    # Unique by a constraint, because ``unique=True`` would add a second index for LIKE; keys
    # without an index of their own are led by one in Meta or never searched by.
    request_id = models.CharField(max_length=40)
    # No constraint of their own: a trigger checks the owners of all rows of a statement at
    # once, another refuses to delete who has usage (migration 0007).
    organization = models.ForeignKey(
        Organization, models.PROTECT, related_name="usage_events", db_index=False, **_CHECKED
    )
    project = models.ForeignKey(
        Project, models.PROTECT, related_name="+", db_index=False, **_CHECKED
    )
    api_key = models.ForeignKey(
        ApiKey, models.PROTECT, null=True, related_name="+", db_index=False, **_CHECKED
    )
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
    # With a default in the database: a collector of the release before inserts without it.
    engine_us = models.BigIntegerField(
        default=0, db_default=0, help_text="Engine time of its sequences in microseconds."
    )
    tier = models.CharField(
        max_length=8, choices=Tier.choices, default=Tier.STANDARD, db_default=Tier.STANDARD
    )
    price = models.ForeignKey(
        Price, models.PROTECT, null=True, related_name="+", db_index=False, **_CHECKED
    )
    cost_micros = models.PositiveBigIntegerField()
    recorded_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering: ClassVar = ["-started_at", "-pk"]
        indexes: ClassVar = [
            # Covering: sums over a period are read from the index alone.
            models.Index(
                fields=["organization", "-started_at"],
                include=[
                    "model",
                    "prompt_tokens",
                    "completion_tokens",
                    "cached_tokens",
                    "cost_micros",
                    "status",
                    "time_to_first_token_ms",
                    "project",
                    "api_key",
                ],
                name="billing_usage_of_org",
            ),
            models.Index(fields=["api_key", "-started_at"], name="billing_usage_by_key"),
            # For sums over all organizations; rows come in its order.
            BrinIndex(
                "started_at", autosummarize=True, pages_per_range=32, name="billing_usage_by_time"
            ),
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["request_id"], name="billing_usage_once"),
            models.CheckConstraint(
                condition=models.Q(cached_tokens__lte=models.F("prompt_tokens")),
                name="billing_usage_cached_within_prompt",
            ),
        ]

    def __str__(self) -> str:
        return self.request_id

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


class LedgerTransaction(models.Model):
    """One posting; ``reference`` is unique for its kind: of usage the request's id, of
    credit the grant's."""

    class Kind(models.TextChoices):
        USAGE = "usage", "Usage"
        CREDIT = "credit", "Credit granted"

    organization = models.ForeignKey(
        Organization, models.PROTECT, related_name="ledger_transactions", **_CHECKED
    )
    kind = models.CharField(max_length=12, choices=Kind.choices)
    reference = models.CharField(max_length=60)
    usage_event = models.OneToOneField(
        UsageEvent, models.PROTECT, null=True, related_name="ledger_transaction", **_CHECKED
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
        # What was given is a cost of selling; what a customer paid will be cash.
        GRANTED = "granted", "Credit given to customers"

    transaction = models.ForeignKey(
        LedgerTransaction, models.PROTECT, related_name="entries", db_index=False, **_CHECKED
    )
    organization = models.ForeignKey(
        Organization, models.PROTECT, related_name="+", db_index=False, **_CHECKED
    )
    account = models.CharField(max_length=12, choices=Account.choices)
    amount_micros = models.BigIntegerField()

    class Meta:
        verbose_name_plural = "ledger entries"
        indexes: ClassVar = [
            # Covering: a balance is read from the index alone.
            models.Index(
                fields=["organization", "account"],
                include=["amount_micros"],
                name="billing_entry_by_account",
            )
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["transaction", "account"], name="billing_entry_side")
        ]

    def __str__(self) -> str:
        return f"{self.account} {self.amount_micros}"


class RejectedReport(models.Model):
    """A usage report that could not be recorded, kept whole so that nothing is lost silently.

    Not a tenant's row: the organization it names may not exist. ``digest`` makes a
    redelivered report one row.
    """

    MAX_RAW_BYTES: ClassVar[int] = 16_384

    digest = models.CharField(max_length=64, help_text="SHA-256 of the raw bytes.")
    request_id = models.CharField(max_length=40, blank=True)
    reason = models.CharField(max_length=200)
    raw = models.BinaryField(help_text="The report's MessagePack, its first 16 KiB.")
    rejected_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering: ClassVar = ["-rejected_at", "-pk"]
        indexes: ClassVar = [models.Index(fields=["-rejected_at"], name="billing_rejected_recent")]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["digest"], name="billing_rejected_once")
        ]

    def __str__(self) -> str:
        return f"{self.request_id or 'no request id'}: {self.reason}"

    @property
    def content(self) -> str:
        """The raw report for a person to read: its decoded fields, else its bytes."""
        raw = bytes(self.raw)
        try:
            return repr(msgspec.msgpack.decode(raw))
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return repr(raw)


class SpendAlert(models.Model):
    """Tells people when a month's costs reach a threshold; refuses nothing."""

    public_id = models.CharField(
        max_length=24, unique=True, default=identifiers.new_spend_alert_id, editable=False
    )
    organization = models.ForeignKey(Organization, models.CASCADE, related_name="spend_alerts")
    project = models.ForeignKey(
        Project, models.CASCADE, null=True, related_name="+", help_text="None: all of them."
    )
    threshold_micros = models.PositiveBigIntegerField()
    recipients = models.JSONField(default=list)
    subject_prefix = models.CharField(max_length=80, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = TenantManager()

    class Meta:
        ordering: ClassVar = ["pk"]

    def __str__(self) -> str:
        return self.public_id


class SpendNotice(models.Model):
    """That people were told of a month's costs: of an alert's threshold, or (without an alert)
    of a budget. Once for each month and amount."""

    organization = models.ForeignKey(Organization, models.CASCADE, related_name="+", db_index=False)
    project = models.ForeignKey(Project, models.CASCADE, null=True, related_name="+")
    alert = models.ForeignKey(
        SpendAlert, models.CASCADE, null=True, related_name="notices", db_index=False
    )
    month = models.DateField(help_text="Its first day.")
    limit_micros = models.PositiveBigIntegerField(help_text="Threshold or budget.")
    spent_micros = models.PositiveBigIntegerField()
    at = models.DateTimeField(auto_now_add=True)

    objects = TenantManager()

    class Meta:
        ordering: ClassVar = ["-pk"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["organization", "project", "alert", "month", "limit_micros"],
                name="billing_told_once",
                nulls_distinct=False,
            )
        ]

    def __str__(self) -> str:
        return f"{self.month:%Y-%m} {self.limit_micros}"
