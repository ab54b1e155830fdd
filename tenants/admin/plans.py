"""Plans: what organizations may buy; a change holds for every one of a plan at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from django.contrib import admin
from django.http import HttpRequest
from unfold.admin import TabularInline
from unfold.decorators import display

from tenants import actions
from tenants.actions.projects import LIMIT_NAMES
from tenants.models import Plan, PlanModelLimit
from tenants.staff import AuditedAdmin

SHOWN_LIMITS = (
    "requests_per_hour", "requests_per_minute", "tokens_per_minute", "concurrent_requests",
    "monthly_tokens",
)  # fmt: skip


def _amount(name: str) -> Callable[[Plan], str]:
    """A column of the list: a limit with its thousands apart."""

    @display(description=name.replace("_", " ").capitalize(), ordering=name)
    def shown(plan: Plan) -> str:
        amount = getattr(plan, name)
        return "–" if amount is None else f"{amount:,}"

    return shown


class PlanModelLimitInline(TabularInline):  # type: ignore[misc]
    model = PlanModelLimit
    extra = 0
    fields = ("model", *LIMIT_NAMES)
    verbose_name_plural = "Limits of single models, beside those of the plan"


@admin.register(Plan)
class PlanAdmin(AuditedAdmin):
    list_display = (
        "name", *(_amount(name) for name in SHOWN_LIMITS), "fair_share_weight", "is_default",
    )  # fmt: skip
    search_fields = ("name", "slug")
    prepopulated_fields: ClassVar = {"slug": ("name",)}
    inlines: ClassVar = (PlanModelLimitInline,)
    fieldsets: ClassVar = [
        (None, {"fields": ("name", "slug", "is_default")}),
        ("Limits of an organization; empty sets none", {"fields": LIMIT_NAMES}),
        (
            "What it allows",
            {
                "fields": (
                    "fair_share_weight",
                    "stored_bytes",
                    "batch_tokens",
                    "allows_custom_limits",
                    "allows_priority",
                    "allows_dedicated_capacity",
                )
            },
        ),
    ]

    def announce(self) -> None:
        actions.notify_all_changed()

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Not the default one: new organizations would have none."""
        if isinstance(obj, Plan) and obj.is_default:
            return False
        return bool(super().has_delete_permission(request, obj))
