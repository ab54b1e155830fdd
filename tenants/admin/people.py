"""People: their accounts, and who may use the staff admin."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import display
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from tenants.models import User
from tenants.staff import AuditedAdmin, link_to, staff_user

MOST_SHOWN = 50


class PersonCreationForm(UserCreationForm):  # type: ignore[misc]
    class Meta:
        model = User
        fields = ("email", "name")

    def clean_email(self) -> str:
        return str(self.cleaned_data["email"]).lower()


class PersonChangeForm(UserChangeForm):  # type: ignore[misc]
    class Meta:
        model = User
        fields = "__all__"

    def clean_email(self) -> str:
        return str(self.cleaned_data["email"]).lower()


@admin.register(User)
class UserAdmin(AuditedAdmin, DjangoUserAdmin):  # type: ignore[misc]
    form = PersonChangeForm
    add_form = PersonCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("email", "name", "is_active", "is_staff", "last_login", "date_joined")
    list_filter = ("is_active", "is_staff", "is_superuser")
    search_fields = ("email", "name", "public_id")
    search_beginnings = ("name",)
    search_person = "pk"
    ordering = ("email",)
    sortable_by = ()
    filter_horizontal = ("user_permissions",)
    readonly_fields = ("public_id", "last_login", "date_joined", "organizations")
    fieldsets: ClassVar = [
        (None, {"fields": ("email", "name", "public_id", "password", "organizations")}),
        ("Access", {"fields": ("is_active", "is_staff", "is_superuser", "user_permissions")}),
        ("Dates", {"fields": ("last_login", "date_joined")}),
    ]
    add_fieldsets = [  # type: ignore[misc]
        (None, {"classes": ("wide",), "fields": ("email", "name", "password1", "password2")})
    ]

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """The audit trail names people; they are made inactive, never deleted."""
        return False

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Only a superuser gives power away: staff may not make themselves more than they are."""
        fields = super().get_readonly_fields(request, obj)
        if staff_user(request).is_superuser:
            return fields
        return (*fields, "is_staff", "is_superuser", "user_permissions")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nor may they take over a superuser by changing that account's password or address."""
        if isinstance(obj, User) and obj.is_superuser and not staff_user(request).is_superuser:
            return False
        return bool(super().has_change_permission(request, obj))

    def user_change_password(
        self, request: HttpRequest, id: str, form_url: str = ""
    ) -> HttpResponse:
        with transaction.atomic():
            response = super().user_change_password(request, id, form_url)
            user = self.get_object(request, id)
            # The page answers a valid form with a redirect and an invalid one with itself.
            if request.method == "POST" and response.status_code == 302 and user is not None:
                self.record(request, user, "password_changed")
        return response

    @display(description="Organizations")
    def organizations(self, user: User) -> SafeString:
        memberships = user.memberships.select_related("organization").order_by("pk")
        links = [
            format_html("{} ({})", link_to(each.organization), each.role)
            for each in memberships[:MOST_SHOWN]
        ]
        return format_html("{}", SafeString(", ".join(links)) if links else "–")
