"""API keys and service accounts: looked at, limited, stopped; never made, never shown."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db import transaction
from django.db.models import QuerySet
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse
from unfold.decorators import action, display

from tenants import actions
from tenants.actions.projects import LIMIT_NAMES
from tenants.models import ApiKey, ServiceAccount
from tenants.staff import (
    AuditedAdmin,
    ReadOnlyAdmin,
    address_of,
    ask_reason,
    confirm_page,
    staff_user,
)


@admin.register(ApiKey)
class ApiKeyAdmin(AuditedAdmin):
    """A secret is shown to its owner, once, and to staff not even as a digest."""

    list_display = (
        "name", "kind", "organization", "project", "masked", "state", "created_at", "last_used_at",
    )  # fmt: skip
    list_select_related = ("organization", "project")
    list_filter = (
        "kind",
        ("revoked_at", admin.EmptyFieldListFilter),
        ("suspended_at", admin.EmptyFieldListFilter),
    )
    search_fields = ("name", "public_id", "organization__public_id")
    search_beginnings = ("name",)
    search_person = "created_by"
    search_help_text = "How a name begins, a key_… or org_… identifier, its creator's address"
    ordering = ("-pk",)
    sortable_by = ()
    readonly_fields = (
        "public_id", "organization", "kind", "project", "service_account", "created_by", "name",
        "masked", "state", "scopes", "allowed_models", "allowed_networks", "created_at",
        "last_used_at", "expires_at", "expiry_warned_at", "rotated_at", "previous_expires_at",
        "suspended_at", "suspended_reason", "revoked_at",
    )  # fmt: skip
    fields = (*readonly_fields, *LIMIT_NAMES)
    actions = ("revoke_selected",)
    actions_detail = ("suspend", "restore", "revoke")

    def get_queryset(self, request: HttpRequest) -> QuerySet[ApiKey]:
        keys = super().get_queryset(request).defer("secret_hmac", "previous_secret_hmac")
        return keys.select_related("organization", "project", "service_account", "created_by")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def save_model(
        self, request: HttpRequest, obj: Any, form: ModelForm[Any], change: bool
    ) -> None:
        with transaction.atomic():
            super().save_model(request, obj, form, change)
            actions.notify_change(obj.organization)

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        """Only what would change something."""
        key = self.get_object(request, str(object_id))
        if key is None or key.revoked_at is not None:
            return []
        offered = {"revoke", "suspend" if key.suspended_at is None else "restore"}
        found = super().get_actions_detail(request, object_id)
        return [each for each in found if each.path in offered]

    @display(description="Key")
    def masked(self, key: ApiKey) -> str:
        return f"sk-…{key.last_four}"

    @display(
        description="State",
        label={
            "Active": "success",
            "Expired": "warning",
            "Suspended": "warning",
            "Revoked": "danger",
        },
    )
    def state(self, key: ApiKey) -> str:
        if key.revoked_at:
            return "Revoked"
        if key.suspended_at:
            return "Suspended"
        return "Active" if key.is_live else "Expired"

    @admin.action(description="Revoke selected keys", permissions=["change"])
    def revoke_selected(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        with transaction.atomic():
            # All rows before the first event (tenants.audit), in the order of their keys.
            keys = list(
                queryset.filter(revoked_at=None)
                .order_by("organization_id", "pk")
                .select_for_update(of=("self",))
            )
            for key in keys:
                actions.revoke_api_key(
                    key, acting_user=staff_user(request), address=address_of(request)
                )
        self.message_user(request, f"{len(keys)} revoked.", messages.SUCCESS)

    @action(description="Suspend", url_path="suspend", permissions=["act"])
    def suspend(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return confirm_page(
            self,
            request,
            object_id,
            title="Suspend",
            question="Programs that use it are refused within a second, until it is restored.",
            perform=lambda key, given: self._set_suspended(request, key, given["reason"]),
            make_form=ask_reason,
        )

    @action(description="Restore", url_path="restore", permissions=["act"])
    def restore(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return confirm_page(
            self,
            request,
            object_id,
            title="Restore",
            question="It works again within a second.",
            perform=lambda key, given: self._set_suspended(request, key, None),
        )

    def _set_suspended(self, request: HttpRequest, key: ApiKey, reason: str | None) -> str:
        actions.set_api_key_suspended(
            key,
            reason is not None,
            reason=reason or "",
            acting_user=staff_user(request),
            address=address_of(request),
        )
        return f"{key} is {'restored' if reason is None else 'suspended'}."

    @action(description="Revoke", url_path="revoke", permissions=["act"])
    def revoke(self, request: HttpRequest, object_id: str) -> HttpResponse:
        def perform(key: ApiKey, _given: dict[str, Any]) -> str:
            actions.revoke_api_key(
                key, acting_user=staff_user(request), address=address_of(request)
            )
            return f"{key} is revoked."

        return confirm_page(
            self,
            request,
            object_id,
            title="Revoke",
            question="Programs that use it are refused within a second. This cannot be undone.",
            perform=perform,
        )


@admin.register(ServiceAccount)
class ServiceAccountAdmin(ReadOnlyAdmin):
    list_display = ("name", "public_id", "organization", "project", "created_at", "deleted_at")
    list_select_related = ("organization", "project")
    list_filter = (("deleted_at", admin.EmptyFieldListFilter),)
    search_fields = ("public_id", "organization__public_id")
    search_exactly = ("public_id",)
    search_help_text = "A svc_… or org_… identifier"
    ordering = ("-pk",)
    sortable_by = ()
    actions_detail = ("remove",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[ServiceAccount]:
        return super().get_queryset(request).select_related("organization", "project")

    @action(description="Delete", url_path="remove", permissions=["act"])
    def remove(self, request: HttpRequest, object_id: str) -> HttpResponse:
        def perform(account: ServiceAccount, _given: dict[str, Any]) -> str:
            actions.delete_service_account(
                account, acting_user=staff_user(request), address=address_of(request)
            )
            return f"{account} is deleted and its keys are revoked."

        return confirm_page(
            self,
            request,
            object_id,
            title="Delete",
            question="Its keys are revoked within a second. This cannot be undone.",
            perform=perform,
        )
