"""One page of everything about an organization: what it bought, who and what belongs to it."""

from __future__ import annotations

from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.db import transaction
from django.db.models import Count, IntegerField, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from unfold.decorators import action, display

from tenants import actions, impersonation
from tenants.actions.projects import LIMIT_NAMES
from tenants.admin.audit import verify
from tenants.admin.panels import panels_of
from tenants.models import Membership, Organization, User
from tenants.staff import AuditedAdmin, ReasonForm, address_of, ask_reason, confirm_page, staff_user


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


class LookForm(ReasonForm):
    """Why the portal has to be looked at; members read it in their audit log."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.fields["reason"].required = True
        self.fields["reason"].widget.attrs["placeholder"] = "Ticket 4711: usage page shows nothing"


@admin.register(Organization)
class OrganizationAdmin(AuditedAdmin):
    list_display = ("name", "public_id", "plan", "state", "members", "created_at")
    list_select_related = ("plan",)
    list_filter = ("plan", ("suspended_at", admin.EmptyFieldListFilter), "is_prepaid")
    search_fields = ("name", "public_id", "memberships__user__email")
    search_beginnings = ("name",)
    search_person = "memberships__user"
    search_help_text = "How a name begins, an org_… identifier, or a member's whole address"
    ordering = ("name", "pk")
    sortable_by = ()
    readonly_fields = (
        "public_id", "created_at", "suspended_at", "suspended_reason", "credit_granted_micros",
        "spend_limit_micros",
    )  # fmt: skip
    change_form_after_template = "admin/organization_panels.html"
    actions = ("suspend_selected", "restore_selected")
    actions_detail = ("look", "suspend", "restore", "grant_credit", "verify_chain")
    fieldsets: ClassVar = [
        (None, {"fields": ("name", "public_id", "plan", "created_at")}),
        ("State", {"fields": ("suspended_at", "suspended_reason")}),
        ("Money", {"fields": ("is_prepaid", "credit_granted_micros", "spend_limit_micros")}),
        ("Limits of its own, in place of its plan's", {"fields": LIMIT_NAMES}),
        (
            "Requests",
            {
                "fields": (
                    "screening_policy",
                    "response_cache_ttl_s",
                    "semantic_cache",
                    "semantic_cache_ttl_s",
                    "semantic_cache_threshold",
                    "answers_kept_days",
                )
            },
        ),
        ("Where", {"fields": ("region", "data_residency")}),
        ("People", {"fields": ("requires_mfa",)}),
    ]
    add_fieldsets = [(None, {"fields": ("name", "plan", "owner")})]  # type: ignore[misc]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Organization]:
        # Counted for the rows of one page alone; a join would group every organization.
        members = Membership.objects.filter(organization=OuterRef("pk")).order_by()
        counted = members.values("organization").annotate(number=Count("pk")).values("number")
        found = super().get_queryset(request).select_related("plan")
        return found.annotate(
            member_count=Coalesce(Subquery(counted, output_field=IntegerField()), 0)
        )

    def get_form(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> Any:
        if obj is None:
            kwargs["form"] = OrganizationAddForm
        kwargs["labels"] = {
            "response_cache_ttl_s": "Response cache, seconds",
            "semantic_cache_ttl_s": "Semantic cache, seconds",
            "answers_kept_days": "Answers kept, days",
        }
        return super().get_form(request, obj, **kwargs)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        return super().get_fieldsets(request, obj) if obj else self.add_fieldsets

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:
            return ()
        fixed = () if obj.plan.allows_custom_limits else LIMIT_NAMES
        return (*super().get_readonly_fields(request, obj), *fixed)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Usage and ledger name the organization; it is suspended, never deleted."""
        return False

    def render_change_form(
        self, request: HttpRequest, context: Any, *args: Any, obj: Any = None, **kwargs: Any
    ) -> HttpResponse:
        if obj is not None:
            context["panels"] = panels_of(obj)
        return super().render_change_form(request, context, *args, obj=obj, **kwargs)

    def save_model(  # type: ignore[override]
        self, request: HttpRequest, obj: Organization, form: ModelForm[Any], change: bool
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
        """Of two opposites only the one that would change something."""
        organization = self.get_object(request, str(object_id))
        useless = "suspend" if organization and organization.is_suspended else "restore"
        found = super().get_actions_detail(request, object_id)
        return [each for each in found if each.path != useless]

    @display(description="State", label={"Active": "success", "Suspended": "danger"})
    def state(self, organization: Organization) -> str:
        return "Suspended" if organization.is_suspended else "Active"

    @display(description="Members")
    def members(self, organization: Any) -> int:
        return int(organization.member_count)

    @admin.action(description="Suspend selected organizations", permissions=["change"])
    def suspend_selected(self, request: HttpRequest, queryset: QuerySet[Organization]) -> None:
        self._set_all_suspended(request, queryset.filter(suspended_at=None), True)

    @admin.action(description="Restore selected organizations", permissions=["change"])
    def restore_selected(self, request: HttpRequest, queryset: QuerySet[Organization]) -> None:
        self._set_all_suspended(request, queryset.exclude(suspended_at=None), False)

    def _set_all_suspended(
        self, request: HttpRequest, queryset: QuerySet[Organization], suspended: bool
    ) -> None:
        with transaction.atomic():
            # By primary key, the order in which chains are locked (tenants.audit).
            organizations = list(queryset.order_by("pk").select_for_update(of=("self",)))
            for organization in organizations:
                self._set_suspended(request, organization, suspended)
        verb = "suspended" if suspended else "restored"
        self.message_user(request, f"{len(organizations)} {verb}.", messages.SUCCESS)

    def _set_suspended(
        self, request: HttpRequest, organization: Organization, suspended: bool, reason: str = ""
    ) -> str:
        actions.set_organization_suspended(
            organization,
            suspended,
            acting_user=staff_user(request),
            reason=reason,
            address=address_of(request),
        )
        return f"{organization} is {'suspended' if suspended else 'restored'}."

    def has_look_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return impersonation.may_look(staff_user(request))

    @action(description="View as owner", url_path="look", permissions=["look"])
    def look(self, request: HttpRequest, object_id: str) -> HttpResponse:
        organization = self.get_object(request, object_id)

        def perform(obj: Organization, given: dict[str, Any]) -> str:
            impersonation.begin_look(
                request.session,
                obj,
                given["reason"],
                acting_user=staff_user(request),
                address=address_of(request),
            )
            return f"You look at {obj}."

        return confirm_page(
            self,
            request,
            object_id,
            title="View as owner",
            question="You see its portal as its owner does, for 30 minutes, and can change nothing"
            " meanwhile. Its audit log shows your reason and every page that you open.",
            perform=perform,
            make_form=lambda request, _obj: LookForm(request.POST or None),
            then=reverse("overview", args=[organization.public_id]) if organization else "",
            may=impersonation.may_look(staff_user(request)),
            is_harmless=True,
        )

    @action(description="Suspend", url_path="suspend", permissions=["act"])
    def suspend(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return confirm_page(
            self,
            request,
            object_id,
            title="Suspend",
            question="Its requests are refused within a second, and it cannot create keys.",
            perform=lambda obj, given: self._set_suspended(request, obj, True, given["reason"]),
            make_form=ask_reason,
        )

    @action(description="Restore", url_path="restore", permissions=["act"])
    def restore(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return confirm_page(
            self,
            request,
            object_id,
            title="Restore",
            question="Its keys work again within a second.",
            perform=lambda obj, _given: self._set_suspended(request, obj, False),
            is_harmless=True,
        )

    @action(description="Grant credit", url_path="grant-credit", permissions=["act"])
    def grant_credit(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The page is billing's, a room that this one does not know."""
        return redirect("admin:billing_grant_credit", object_id)

    @action(description="Verify audit chain", url_path="verify-chain", permissions=["act"])
    def verify_chain(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return confirm_page(
            self,
            request,
            object_id,
            title="Verify",
            question="Every event of this organization is read and its hash computed.",
            perform=lambda obj, _given: verify(obj.pk),
            is_harmless=True,
        )
