"""Identity providers: staff say which e-mail domains are an organization's own."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from unfold.decorators import action, display

from tenants.actions.single_sign_on import verify_domains
from tenants.models import IdentityProvider
from tenants.staff import ReadOnlyAdmin, address_of, confirm_page, staff_user


class DomainsForm(forms.Form):
    domains = forms.CharField(
        required=False,
        widget=forms.Textarea(attrs={"rows": 6, "cols": 60}),
        help_text="One a line. Whoever has an address there can log in as its member: look for"
        " a DNS record or a letter before you say yes. Empty takes every domain back.",
    )

    def clean_domains(self) -> list[str]:
        return str(self.cleaned_data["domains"]).split()


def _ask_domains(request: HttpRequest, provider: IdentityProvider) -> forms.Form:
    asked = provider.verified_domains or provider.settings.get("requested_domains", [])
    return DomainsForm(request.POST or None, initial={"domains": "\n".join(asked)})


@admin.register(IdentityProvider)
class IdentityProviderAdmin(ReadOnlyAdmin):
    list_display = (
        "name", "protocol", "organization", "verified", "is_enabled", "is_enforced", "created_at",
    )  # fmt: skip
    list_select_related = ("organization",)
    list_filter = ("protocol", "is_enabled")
    search_fields = ("public_id", "organization__public_id")
    search_exactly = ("public_id", "slug")
    search_help_text = "An idp_… or org_… identifier"
    ordering = ("-pk",)
    sortable_by = ()
    exclude = ("secret_encrypted",)
    actions_detail = ("verify",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[IdentityProvider]:
        providers = super().get_queryset(request).defer("secret_encrypted")
        return providers.select_related("organization")

    @display(description="Verified domains")
    def verified(self, provider: IdentityProvider) -> str:
        return ", ".join(provider.verified_domains) or "–"

    @action(description="Verify domains", url_path="verify", permissions=["act"])
    def verify(self, request: HttpRequest, object_id: str) -> HttpResponse:
        def perform(provider: IdentityProvider, given: dict[str, Any]) -> str:
            verify_domains(
                provider,
                given["domains"],
                acting_user=staff_user(request),
                address=address_of(request),
            )
            return f"{provider} has the domains: {', '.join(provider.verified_domains) or 'none'}."

        return confirm_page(
            self,
            request,
            object_id,
            title="Verify domains",
            question="These e-mail domains are this organization's, and nobody else's.",
            perform=perform,
            make_form=_ask_domains,
        )
