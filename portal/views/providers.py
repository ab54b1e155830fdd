"""An organization's identity providers: listed, made, changed, removed."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext
from django.views.decorators.http import require_http_methods, require_safe

from portal.account_forms import NewProviderForm, ProviderForm, initial_of
from portal.pages import address_of, organization_page, render_page
from tenants import access, identity_providers
from tenants.actions import single_sign_on
from tenants.errors import InvalidInput
from tenants.models import IdentityProvider, Membership


@require_safe
@organization_page("sso.manage")
def list_providers(request: HttpRequest, membership: Membership) -> HttpResponse:
    providers = identity_providers.get_providers(membership.organization)
    return _render(request, membership, "portal/providers.html", {"providers": providers})


@require_http_methods(["GET", "HEAD", "POST"])
@organization_page("sso.manage")
def create_provider(request: HttpRequest, membership: Membership) -> HttpResponse:
    """The protocol comes first (``?protocol=``), because it decides what is asked for."""
    actor = access.actor_of(membership)
    protocol = request.POST.get("protocol") or request.GET.get("protocol") or "openid_connect"
    if protocol not in IdentityProvider.Protocol.values:
        protocol = str(IdentityProvider.Protocol.OIDC)
    new = NewProviderForm(request.POST or None, initial={"protocol": protocol})
    form = ProviderForm(request.POST or None, protocol=protocol, actor=actor)
    if request.method == "POST" and new.is_valid() and form.is_valid():
        try:
            provider = single_sign_on.create_identity_provider(
                membership.organization,
                protocol,
                new.cleaned_data["slug"],
                form.terms,
                actor=actor,
                address=address_of(request),
            )
        except InvalidInput as error:
            _explain(error, form, new)
        else:
            messages.success(request, gettext("Saved. Tell your provider the addresses below."))
            return redirect(
                "provider_change", membership.organization.public_id, provider.public_id
            )
    context = {"form": form, "new": new, "protocol": protocol}
    return _render(request, membership, "portal/provider_form.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@organization_page("sso.manage")
def change_provider(request: HttpRequest, membership: Membership, provider_id: str) -> HttpResponse:
    provider = identity_providers.access_provider(membership.organization, provider_id)
    actor = access.actor_of(membership)
    form = ProviderForm(
        request.POST or None,
        protocol=provider.protocol,
        actor=actor,
        initial=initial_of(provider),
    )
    if request.method == "POST" and form.is_valid():
        try:
            single_sign_on.update_identity_provider(
                provider, form.terms, actor=actor, address=address_of(request)
            )
        except InvalidInput as error:
            _explain(error, form)
        else:
            messages.success(request, gettext("Saved."))
            return redirect("providers", membership.organization.public_id)
    context = {"form": form, "provider": provider, "protocol": provider.protocol}
    return _render(
        request,
        membership,
        "portal/provider_form.html",
        context | _addresses(request, provider),
    )


@require_http_methods(["GET", "HEAD", "POST"])
@organization_page("sso.manage")
def delete_provider(request: HttpRequest, membership: Membership, provider_id: str) -> HttpResponse:
    provider = identity_providers.access_provider(membership.organization, provider_id)
    if request.method == "POST":
        single_sign_on.delete_identity_provider(
            provider, actor=access.actor_of(membership), address=address_of(request)
        )
        messages.success(request, gettext("“%(name)s” is removed.") % {"name": provider.name})
        return redirect("providers", membership.organization.public_id)
    return _render(request, membership, "portal/provider_delete.html", {"provider": provider})


def _addresses(request: HttpRequest, provider: IdentityProvider) -> dict[str, str]:
    """What the organization has to enter at its provider."""
    handle = identity_providers.handle_of(provider)
    names = {
        IdentityProvider.Protocol.OIDC: {"redirect_url": "openid_connect_callback"},
        IdentityProvider.Protocol.SAML: {"acs_url": "saml_acs", "metadata_url": "saml_metadata"},
    }[IdentityProvider.Protocol(provider.protocol)]
    return {
        key: request.build_absolute_uri(reverse(name, args=[handle])) for key, name in names.items()
    }


def _explain(error: InvalidInput, *forms: Any) -> None:
    """The room's refusal at the field that it is about."""
    for form in forms:
        if error.param in form.fields:
            form.add_error(error.param, error.message)
            return
    forms[0].add_error(None, error.message)


def _render(
    request: HttpRequest, membership: Membership, template: str, context: dict[str, Any]
) -> HttpResponse:
    form = context.get("form")
    status = 400 if form is not None and form.is_bound else 200
    return render_page(request, membership, template, context, tab="settings", status=status)
