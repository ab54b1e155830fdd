"""Staff pages for organizations, people, keys, plans and the audit trail."""

from __future__ import annotations

from typing import Any, ClassVar

from allauth.account.models import EmailAddress, EmailConfirmation
from django import forms
from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group
from django.db import transaction
from django.db.models import Count, QuerySet
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import TabularInline
from unfold.decorators import action, display
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from tenants import actions
from tenants.models import (
    ApiKey,
    AuditEvent,
    Membership,
    Organization,
    Plan,
    Project,
    User,
)
from tenants.staff import (
    AuditedAdmin,
    ReadOnlyAdmin,
    address_of,
    confirm_page,
    link_to,
    staff_user,
)

# allauth's and Django's own pages would change accounts without an audit row.
for model in (EmailAddress, EmailConfirmation, Group):
    if admin.site.is_registered(model):
        admin.site.unregister(model)


class MembershipInline(TabularInline):  # type: ignore[misc]
    model = Membership
    extra = 0
    autocomplete_fields = ("user",)
    fields = ("user", "role", "created_at")
    readonly_fields = ("created_at",)
    show_change_link = False


class ProjectInline(TabularInline):  # type: ignore[misc]
    model = Project
    extra = 0
    fields = ("name", "public_id", "archived_at", "created_at")
    readonly_fields = ("public_id", "created_at")
    can_delete = False


class OrganizationAddForm(forms.ModelForm):  # type: ignore[type-arg]
    """A customer that staff bring in: the owner has an account already."""

    owner = forms.ModelChoiceField(
        queryset=User.objects.filter(is_active=True), to_field_name="email"
    )

    class Meta:
        model = Organization
        fields = ("name", "plan")

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        # An address is typed, not picked from a list of every user.
        self.fields["owner"].widget = forms.EmailInput(attrs={"size": 40})
        self.fields["owner"].help_text = "E-mail address of an existing user."


@admin.register(Organization)
class OrganizationAdmin(AuditedAdmin):
    list_display = ("name", "public_id", "plan", "state", "members", "created_at")
    list_select_related = ("plan",)
    list_filter = (
        "plan",
        ("suspended_at", admin.EmptyFieldListFilter),
        "screening_policy",
    )
    search_fields = ("name", "public_id", "memberships__user__email")
    readonly_fields = (
        "public_id",
        "created_at",
        "suspended_at",
        "suspended_reason",
        "key_list",
    )
    inlines = (MembershipInline, ProjectInline)
    actions = ("suspend_selected", "restore_selected")
    actions_detail = ("suspend", "restore")
    fieldsets: ClassVar = [
        (None, {"fields": ("name", "public_id", "plan", "created_at", "key_list")}),
        ("State", {"fields": ("suspended_at", "suspended_reason")}),
        ("Requests", {"fields": ("screening_policy", "response_cache_ttl_s")}),
        ("Where", {"fields": ("region", "data_residency")}),
    ]
    add_fieldsets = [(None, {"fields": ("name", "plan", "owner")})]  # type: ignore[misc]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Organization]:
        return super().get_queryset(request).annotate(member_count=Count("memberships"))

    def get_form(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> Any:
        if obj is None:
            kwargs["form"] = OrganizationAddForm
        kwargs["labels"] = {"response_cache_ttl_s": "Response cache, seconds"}
        return super().get_form(request, obj, **kwargs)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        return super().get_fieldsets(request, obj) if obj else self.add_fieldsets

    def get_inlines(self, request: HttpRequest, obj: Any) -> Any:
        return super().get_inlines(request, obj) if obj else ()

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return super().get_readonly_fields(request, obj) if obj else ()

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Usage and ledger name the organization; it is suspended, never deleted."""
        return False

    def save_model(  # type: ignore[override]
        self,
        request: HttpRequest,
        obj: Organization,
        form: ModelForm[Any],
        change: bool,
    ) -> None:
        if not change:
            created = actions.create_organization(
                form.cleaned_data["name"],
                acting_user=staff_user(request),
                owner=form.cleaned_data["owner"],
                plan=form.cleaned_data["plan"],
                address=address_of(request),
            )
            obj.__dict__.update(created.__dict__)
            return
        changes = {name: form.cleaned_data[name] for name in form.changed_data}
        if changes:
            # The form has altered obj already; the action needs the values before.
            actions.update_organization(
                Organization.objects.get(pk=obj.pk),
                changes,
                acting_user=staff_user(request),
                address=address_of(request),
            )

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        """Only the one that would change something."""
        organization = self.get_object(request, str(object_id))
        offered = "restore" if organization and organization.is_suspended else "suspend"
        found = super().get_actions_detail(request, object_id)
        return [each for each in found if each.path == offered]

    @display(description="State", label={"Active": "success", "Suspended": "danger"})
    def state(self, organization: Organization) -> str:
        return "Suspended" if organization.is_suspended else "Active"

    @display(description="Members", ordering="member_count")
    def members(self, organization: Any) -> int:
        return int(organization.member_count)

    @display(description="API keys")
    def key_list(self, organization: Organization) -> SafeString:
        url = reverse("admin:tenants_apikey_changelist")
        count = organization.api_keys.count()
        return format_html(
            '<a href="{}?organization__id__exact={}">{} in all</a>',
            url,
            organization.pk,
            count,
        )

    @admin.action(description="Suspend selected organizations", permissions=["change"])
    def suspend_selected(self, request: HttpRequest, queryset: QuerySet[Organization]) -> None:
        self._set_suspended(request, queryset.filter(suspended_at=None), True)

    @admin.action(description="Restore selected organizations", permissions=["change"])
    def restore_selected(self, request: HttpRequest, queryset: QuerySet[Organization]) -> None:
        self._set_suspended(request, queryset.exclude(suspended_at=None), False)

    def _set_suspended(
        self, request: HttpRequest, queryset: QuerySet[Organization], suspended: bool
    ) -> None:
        organizations = list(queryset)
        with transaction.atomic():
            for organization in organizations:
                actions.set_organization_suspended(
                    organization,
                    suspended,
                    acting_user=staff_user(request),
                    address=address_of(request),
                )
        verb = "suspended" if suspended else "restored"
        self.message_user(request, f"{len(organizations)} {verb}.", messages.SUCCESS)

    @action(description="Suspend", url_path="suspend", permissions=["change"])
    def suspend(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return redirect("admin:tenants_organization_confirm", object_id, "suspend")

    @action(description="Restore", url_path="restore", permissions=["change"])
    def restore(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return redirect("admin:tenants_organization_confirm", object_id, "restore")

    def get_urls(self) -> list[Any]:
        confirm = path(
            "<path:object_id>/confirm/<str:verb>/",
            self.admin_site.admin_view(self.confirm),
            name="tenants_organization_confirm",
        )
        return [confirm, *super().get_urls()]

    def confirm(self, request: HttpRequest, object_id: str, verb: str) -> HttpResponse:
        suspended = verb == "suspend"

        def perform(organization: Organization, reason: str) -> str:
            actions.set_organization_suspended(
                organization,
                suspended,
                acting_user=staff_user(request),
                reason=reason,
                address=address_of(request),
            )
            return f"{organization} is {'suspended' if suspended else 'restored'}."

        return confirm_page(
            self,
            request,
            object_id,
            title="Suspend" if suspended else "Restore",
            question="Its requests are refused within a second, and it cannot create keys."
            if suspended
            else "Its keys work again within a second.",
            perform=perform,
            asks_reason=suspended,
        )


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
class UserAdmin(AuditedAdmin, DjangoUserAdmin):
    form = PersonChangeForm
    add_form = PersonCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = (
        "email",
        "name",
        "is_active",
        "is_staff",
        "last_login",
        "date_joined",
    )
    list_filter = ("is_active", "is_staff", "is_superuser")
    search_fields = ("email", "name")
    ordering = ("email",)
    filter_horizontal = ("user_permissions",)
    readonly_fields = ("last_login", "date_joined", "organizations")
    fieldsets: ClassVar = [
        (None, {"fields": ("email", "name", "password", "organizations")}),
        (
            "Access",
            {"fields": ("is_active", "is_staff", "is_superuser", "user_permissions")},
        ),
        ("Dates", {"fields": ("last_login", "date_joined")}),
    ]
    add_fieldsets = [  # type: ignore[misc]
        (
            None,
            {
                "classes": ("wide",),
                "fields": ("email", "name", "password1", "password2"),
            },
        )
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
        if obj is not None and obj.is_superuser and not staff_user(request).is_superuser:
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
        memberships = user.memberships.select_related("organization")
        links = [format_html("{} ({})", link_to(m.organization), m.role) for m in memberships]
        return format_html("{}", SafeString(", ".join(links)) if links else "–")


@admin.register(ApiKey)
class ApiKeyAdmin(AuditedAdmin):
    """Keys are looked at, limited and revoked here, never created: a secret is shown to its owner."""

    list_display = (
        "name",
        "organization",
        "project",
        "masked",
        "state",
        "created_at",
        "last_used_at",
    )
    list_select_related = ("organization", "project")
    list_filter = (
        ("revoked_at", admin.EmptyFieldListFilter),
        ("organization", admin.RelatedOnlyFieldListFilter),
    )
    search_fields = ("name", "public_id", "last_four", "organization__name")
    readonly_fields = (
        "public_id",
        "organization",
        "project",
        "created_by",
        "name",
        "masked",
        "state",
        "created_at",
        "last_used_at",
        "revoked_at",
        "expires_at",
    )
    fields = (
        *readonly_fields,
        "requests_per_minute",
        "tokens_per_minute",
        "concurrent_requests",
        "monthly_tokens",
    )
    actions = ("revoke_selected",)
    actions_detail = ("revoke",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[ApiKey]:
        return super().get_queryset(request).select_related("organization", "project", "created_by")

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

    @display(description="Key")
    def masked(self, key: ApiKey) -> str:
        return f"sk-…{key.last_four}"

    @display(
        description="State",
        label={"Active": "success", "Expired": "warning", "Revoked": "danger"},
    )
    def state(self, key: ApiKey) -> str:
        if key.revoked_at:
            return "Revoked"
        return "Active" if key.is_live else "Expired"

    @admin.action(description="Revoke selected keys", permissions=["change"])
    def revoke_selected(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        keys = list(queryset.filter(revoked_at=None))
        with transaction.atomic():
            for key in keys:
                actions.revoke_api_key(
                    key, acting_user=staff_user(request), address=address_of(request)
                )
        self.message_user(request, f"{len(keys)} revoked.", messages.SUCCESS)

    @action(description="Revoke", url_path="revoke", permissions=["change"])
    def revoke(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return redirect("admin:tenants_apikey_confirm", object_id)

    def get_urls(self) -> list[Any]:
        confirm = path(
            "<path:object_id>/confirm/revoke/",
            self.admin_site.admin_view(self.confirm),
            name="tenants_apikey_confirm",
        )
        return [confirm, *super().get_urls()]

    def confirm(self, request: HttpRequest, object_id: str) -> HttpResponse:
        def perform(key: ApiKey, reason: str) -> str:
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


@admin.register(Plan)
class PlanAdmin(AuditedAdmin):
    list_display = (
        "name",
        "slug",
        "requests_per_minute",
        "tokens_per_minute",
        "concurrent_requests",
        "monthly_tokens",
        "fair_share_weight",
        "is_default",
    )
    search_fields = ("name", "slug")
    prepopulated_fields: ClassVar = {"slug": ("name",)}

    def announce(self) -> None:
        actions.notify_all_changed()


@admin.register(AuditEvent)
class AuditEventAdmin(ReadOnlyAdmin):
    list_display = (
        "at",
        "action",
        "object_type",
        "object_id",
        "organization",
        "acting_user",
    )
    list_select_related = ("organization", "acting_user")
    list_filter = (("at", admin.DateFieldListFilter), "object_type")
    search_fields = ("action", "object_id", "acting_user__email", "organization__name")


@admin.register(Project)
class ProjectAdmin(ReadOnlyAdmin):
    list_display = ("name", "public_id", "organization", "archived_at", "created_at")
    list_select_related = ("organization",)
    search_fields = ("name", "public_id", "organization__name")
