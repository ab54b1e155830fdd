"""The page on which staff grant credit, and an organization's money on its own page."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.urls import path

from billing.credit import MAX_GRANT_MICROS, grant_credit
from billing.models import LedgerTransaction
from billing.money import dollars
from billing.selectors import ledger_balance
from tenants.admin import panels
from tenants.identifiers import random_text
from tenants.models import Organization
from tenants.staff import StaffAdmin, address_of, confirm_page, staff_user

_LARGEST = Decimal(MAX_GRANT_MICROS) / 1_000_000


class GrantForm(forms.Form):
    # Minted with the page: what is sent twice is granted once.
    reference = forms.CharField(max_length=60, widget=forms.HiddenInput)
    dollars = forms.DecimalField(
        max_digits=16,
        decimal_places=6,
        min_value=-_LARGEST,
        max_value=_LARGEST,
        help_text="US dollars; a negative amount takes a grant back.",
    )
    reason = forms.CharField(
        max_length=200,
        widget=forms.TextInput(attrs={"size": 60}),
        help_text="For the audit trail, which the organization's members read.",
    )


def _ask(request: HttpRequest, _organization: Any) -> forms.Form:
    return GrantForm(request.POST or None, initial={"reference": f"grant_{random_text(16)}"})


def grant_page(request: HttpRequest, object_id: int) -> HttpResponse:
    if not staff_user(request).has_perm("billing.add_ledgertransaction"):
        raise PermissionDenied

    def perform(organization: Organization, given: dict[str, Any]) -> str:
        grant_credit(
            organization,
            int(given["dollars"] * 1_000_000),
            reference=given["reference"],
            reason=given["reason"],
            acting_user=staff_user(request),
            address=address_of(request),
        )
        return f"{organization} has been granted {dollars(organization.credit_granted_micros)}."

    page = admin.site.get_model_admin(Organization)
    assert isinstance(page, StaffAdmin)
    return confirm_page(
        page,
        request,
        str(object_id),
        title="Grant credit",
        question=f"It owes {dollars(_owed(object_id))} now; credit lowers that, and a prepaid"
        " organization may spend it within a second.",
        perform=perform,
        make_form=_ask,
    )


def _owed(object_id: int) -> int:
    organization = Organization.objects.filter(pk=object_id).first()
    return ledger_balance(organization) if organization is not None else 0


class CreditPages:
    """For the ledger's admin: the page beside its own."""

    def get_urls(self) -> list[Any]:
        granting = path(
            "grant/<int:object_id>/",
            self.admin_site.admin_view(grant_page),  # type: ignore[attr-defined]
            name="billing_grant_credit",
        )
        return [granting, *super().get_urls()]  # type: ignore[misc]


@panels.register
def _money(organization: Organization) -> panels.Panel:
    grants = LedgerTransaction.objects.filter(
        organization=organization, kind=LedgerTransaction.Kind.CREDIT
    )
    return panels.panel(
        "Credit, newest first",
        ("Reference", "When"),
        grants.order_by("-pk"),
        lambda row: (row.reference, f"{row.posted_at:%Y-%m-%d %H:%M}"),
        organization,
    )
