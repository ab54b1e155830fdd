"""Staff pages for prices, usage and the ledger. Money is shown exactly, never as a float."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import TabularInline
from unfold.decorators import display

from billing.actions import notify_prices_changed
from billing.buckets import COMPLETIONS, EMBEDDINGS
from billing.credit_admin import CreditPages
from billing.models import (
    LedgerEntry,
    LedgerTransaction,
    Price,
    RejectedReport,
    UsageEvent,
)
from billing.money import dollars
from tenants.staff import AuditedAdmin, ReadOnlyAdmin

ENDPOINTS = (*COMPLETIONS, *EMBEDDINGS)


@admin.register(Price)
class PriceAdmin(AuditedAdmin):
    """A price changes by a new row from a new moment on; what was charged stays explained."""

    list_display = (
        "model", "effective_from", "input", "cached_input", "output", "tiers",
    )  # fmt: skip
    list_filter = ("model",)
    search_fields = ("model",)

    def announce(self) -> None:
        notify_prices_changed()

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @display(description="Input / million", ordering="input_micros_per_million")
    def input(self, price: Price) -> str:
        return dollars(price.input_micros_per_million)

    @display(description="Cached / million", ordering="cached_input_micros_per_million")
    def cached_input(self, price: Price) -> str:
        return dollars(price.cached_input_micros_per_million)

    @display(description="Output / million", ordering="output_micros_per_million")
    def output(self, price: Price) -> str:
        return dollars(price.output_micros_per_million)

    @display(description="Priority · flex · batch")
    def tiers(self, price: Price) -> str:
        return f"{price.priority_percent} · {price.flex_percent} · {price.batch_percent} %"


class EndpointFilter(admin.SimpleListFilter):
    """Of what there is; Django's own filter would read every event to find that out."""

    title = parameter_name = "endpoint"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(path, path) for path in ENDPOINTS]

    def queryset(self, request: HttpRequest, queryset: QuerySet[UsageEvent]) -> Any:
        return queryset.filter(endpoint=self.value()) if self.value() else queryset


@admin.register(UsageEvent)
class UsageEventAdmin(ReadOnlyAdmin):
    list_display = (
        "request_id",
        "organization",
        "model",
        "status",
        "source",
        "tier",
        "prompt_tokens",
        "completion_tokens",
        "cost",
        "started_at",
    )
    list_select_related = ("organization",)
    list_filter = (
        ("started_at", admin.DateFieldListFilter),
        "status",
        "source",
        EndpointFilter,
    )
    # Exact, because the table is the largest one and only this column has an index.
    search_fields = ("request_id", "organization__public_id")
    search_exactly = ("request_id",)
    search_help_text = "A whole request or org_… identifier"
    ordering = ("-pk",)
    sortable_by = ()

    def get_queryset(self, request: HttpRequest) -> Any:
        return (
            super()
            .get_queryset(request)
            .select_related("organization", "project", "api_key", "price")
        )

    @display(description="Cost", ordering="cost_micros")
    def cost(self, event: UsageEvent) -> str:
        return dollars(event.cost_micros)


class LedgerEntryInline(TabularInline):  # type: ignore[misc]
    model = LedgerEntry
    extra = 0
    can_delete = False
    fields = ("account", "amount")
    readonly_fields = fields

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @display(description="Amount")
    def amount(self, entry: LedgerEntry) -> str:
        return dollars(entry.amount_micros)


@admin.register(LedgerTransaction)
class LedgerTransactionAdmin(CreditPages, ReadOnlyAdmin):
    list_display = ("reference", "kind", "organization", "posted_at")
    list_select_related = ("organization",)
    list_filter = (("posted_at", admin.DateFieldListFilter), "kind")
    search_fields = ("reference", "organization__public_id")
    search_exactly = ("reference",)
    search_help_text = "A whole reference or org_… identifier"
    ordering = ("-pk",)
    sortable_by = ()
    inlines: ClassVar = (LedgerEntryInline,)

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).select_related("organization", "usage_event")


@admin.register(LedgerEntry)
class LedgerEntryAdmin(ReadOnlyAdmin):
    list_display = ("transaction", "organization", "account", "amount")
    list_select_related = ("transaction", "organization")
    list_filter = ("account",)
    search_fields = ("=transaction__reference",)
    ordering = ("-pk",)
    sortable_by = ()

    @display(description="Amount", ordering="amount_micros")
    def amount(self, entry: LedgerEntry) -> str:
        return dollars(entry.amount_micros)


@admin.register(RejectedReport)
class RejectedReportAdmin(ReadOnlyAdmin):
    """Usage that could not be recorded: a non-empty list is money that waits for a person."""

    list_display = ("rejected_at", "request_id", "reason")
    search_fields = ("=request_id", "=digest")
    fields = ("rejected_at", "request_id", "reason", "digest", "readable")

    def get_queryset(self, request: HttpRequest) -> Any:
        # Only the page of one report shows its content, up to 16 KiB.
        return super().get_queryset(request).defer("raw")

    @display(description="Content")
    def readable(self, report: RejectedReport) -> SafeString:
        return format_html('<pre style="white-space: pre-wrap">{}</pre>', report.content)
