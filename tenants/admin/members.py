"""Who belongs to organizations, what they may, and who was asked to join."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.forms import ModelForm
from django.http import HttpRequest

from tenants import access, actions
from tenants.models import CustomRole, Group, Invitation, Membership
from tenants.staff import ReadOnlyAdmin, StaffAdmin, address_of, staff_user


@admin.register(Membership)
class MembershipAdmin(StaffAdmin):
    """Staff give and take roles by the portal's own rules: there is always an owner."""

    list_display = ("user", "organization", "role", "created_at")
    list_select_related = ("user", "organization")
    list_filter = ("role",)
    search_fields = ("user__email", "organization__public_id")
    search_person = "user"
    search_help_text = "A whole e-mail address, or an org_… identifier"
    autocomplete_fields = ("organization", "user")
    fields = ("organization", "user", "role")
    ordering = ("-pk",)
    sortable_by = ()
    # Removing many at once would hide which of them was refused.
    actions = None

    def get_queryset(self, request: HttpRequest) -> QuerySet[Membership]:
        return super().get_queryset(request).select_related("organization", "user")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return ("organization", "user") if obj is not None else ()

    def save_model(
        self, request: HttpRequest, obj: Membership, form: ModelForm[Any], change: bool
    ) -> None:
        actor = access.get_staff_actor(staff_user(request), obj.organization)
        if change:
            stored = self.get_queryset(request).get(pk=obj.pk)
            actions.change_member_role(stored, obj.role, actor=actor, address=address_of(request))
        else:
            added = actions.add_member(
                obj.organization, obj.user, obj.role, actor=actor, address=address_of(request)
            )
            obj.__dict__.update(added.__dict__)

    def delete_model(self, request: HttpRequest, obj: Membership) -> None:
        actor = access.get_staff_actor(staff_user(request), obj.organization)
        actions.remove_member(obj, actor=actor, address=address_of(request))


@admin.register(Invitation)
class InvitationAdmin(ReadOnlyAdmin):
    """The link's secret is nowhere but in the mail."""

    list_display = ("email", "organization", "role", "status", "invited_by", "created_at")
    list_select_related = ("organization", "invited_by")
    search_fields = ("email", "public_id", "organization__public_id")
    search_beginnings = ("email",)
    search_help_text = "How an address begins, an invite_… or org_… identifier"
    ordering = ("-pk",)
    sortable_by = ()
    fields = (
        "organization", "email", "role", "projects", "status", "invited_by", "created_at",
        "expires_at", "accepted_at", "accepted_by", "revoked_at",
    )  # fmt: skip

    def get_queryset(self, request: HttpRequest) -> QuerySet[Invitation]:
        invitations = super().get_queryset(request).defer("token_digest")
        return invitations.select_related("organization", "invited_by", "accepted_by")


@admin.register(Group)
class GroupAdmin(ReadOnlyAdmin):
    list_display = ("name", "public_id", "organization", "created_at")
    list_select_related = ("organization",)
    search_fields = ("public_id", "organization__public_id")
    search_exactly = ("public_id",)
    search_help_text = "A group_… or org_… identifier"
    ordering = ("-pk",)
    sortable_by = ()


@admin.register(CustomRole)
class CustomRoleAdmin(ReadOnlyAdmin):
    list_display = ("name", "public_id", "organization", "project", "permissions")
    list_select_related = ("organization", "project")
    search_fields = ("public_id", "organization__public_id")
    search_exactly = ("public_id",)
    search_help_text = "A role_… or org_… identifier"
    ordering = ("-pk",)
    sortable_by = ()
