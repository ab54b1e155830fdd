"""Logging in by an organization's own provider: who comes in, as whom, and who must.

allauth speaks the protocols. This adapter hands it providers made from the tenants
room's rows, so that no secret lies in allauth's own table, and decides (ADR 0015).
"""

from __future__ import annotations

from typing import Any

from allauth.account.models import EmailAddress
from allauth.core.exceptions import ImmediateHttpResponse
from allauth.mfa.models import Authenticator
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from allauth.socialaccount.models import SocialApp, SocialLogin
from allauth.socialaccount.providers.base.constants import AuthProcess
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from portal import account_audit
from portal.provider_http import ProviderSession
from portal.providers import says_multi_factor
from tenants import identity_providers
from tenants.actions.single_sign_on import join_by_provider
from tenants.models import IdentityProvider, User

# Where the session keeps the organization whose provider asked for a second factor.
FACTOR_OF_PROVIDER = "second_factor_of_provider"
SAML_SECURITY = {
    "strict": True,
    "want_assertion_signed": True,
    "want_name_id": True,
    "want_attribute_statement": False,
    "reject_deprecated_algorithm": True,
    # Of our own address, which ALLOWED_HOSTS has checked: an intranet's may have no dot.
    "allow_single_label_domains": True,
    # An answer that nobody asked for could log a victim in as the attacker.
    "reject_idp_initiated_sso": True,
}
SAML_ATTRIBUTES = {
    "uid": ["urn:oasis:names:tc:SAML:attribute:subject-id"],
    "email": [
        "email",
        "mail",
        "urn:oid:0.9.2342.19200300.100.1.3",
        "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/emailaddress",
    ],
    "name": ["displayName", "name", "http://schemas.microsoft.com/identity/claims/displayname"],
}


class SocialAccountAdapter(DefaultSocialAccountAdapter):
    def list_apps(
        self, request: HttpRequest, provider: str | None = None, client_id: str | None = None
    ) -> list[SocialApp]:
        """At most the one that is asked for by its handle: nobody lists tenants' providers."""
        handle = client_id if provider == IdentityProvider.Protocol.SAML else provider
        found = identity_providers.get_by_handle(handle or "")
        return [build_app(found)] if found is not None else []

    def get_requests_session(self) -> ProviderSession:
        return ProviderSession()

    def is_email_verified(self, provider: Any, email: str) -> bool:
        return identity_providers.vouches_for(provider.app.identity_provider, email)

    def is_open_for_signup(self, request: HttpRequest, sociallogin: SocialLogin) -> bool:
        return True  # ``pre_social_login`` has decided

    def authenticate_by_email(self, sociallogin: SocialLogin) -> tuple[User, str] | None:
        """By the log-in name alone: an address that waits for confirmation proves nothing."""
        email = address_of(sociallogin)
        user = User.objects.filter(email=email).first() if email else None
        return (user, email) if user is not None else None

    def populate_user(
        self, request: HttpRequest, sociallogin: SocialLogin, data: dict[str, Any]
    ) -> User:
        user: User = super().populate_user(request, sociallogin, data)
        user.name = str(data.get("name") or "")[:120]
        return user

    def pre_social_login(self, request: HttpRequest, sociallogin: SocialLogin) -> None:
        """The gate: nobody has been logged in, linked or made yet."""
        provider = provider_of(sociallogin)
        problem = _refusal(provider, sociallogin)
        if problem:
            account_audit.record_refused_provider(request, provider, problem)
            raise ImmediateHttpResponse(refuse(request, problem))
        _forget_unproven(sociallogin)

    def on_authentication_error(
        self,
        request: HttpRequest,
        provider: Any,
        error: Any = None,
        exception: Exception | None = None,
        extra_context: dict[str, Any] | None = None,
    ) -> None:
        reason = type(exception).__name__ if exception else str(error)
        account_audit.record_refused_provider(request, provider.app.identity_provider, reason)


def build_app(provider: IdentityProvider) -> SocialApp:
    """allauth's view of a provider. It is never saved."""
    handle = identity_providers.handle_of(provider)
    given = provider.settings
    app = SocialApp(provider=provider.protocol, provider_id=handle, name=provider.name[:40])
    if provider.protocol == IdentityProvider.Protocol.OIDC:
        app.client_id, app.secret = provider.client_id, identity_providers.read_secret(provider)
        app.settings = {"server_url": given["issuer"], "oauth_pkce_enabled": True}
    else:
        app.client_id = handle
        app.settings = {
            "idp": {key: given[key] for key in ("entity_id", "sso_url", "x509cert")},
            "advanced": SAML_SECURITY,
            "attribute_mapping": SAML_ATTRIBUTES,
        }
    app.identity_provider = provider
    return app


def provider_of(sociallogin: SocialLogin) -> IdentityProvider:
    found: IdentityProvider = sociallogin.provider.app.identity_provider
    return found


def address_of(sociallogin: SocialLogin) -> str:
    addresses = sociallogin.email_addresses
    return str(addresses[0].email).lower() if addresses else ""


def _refusal(provider: IdentityProvider, sociallogin: SocialLogin) -> str:
    """Why this person does not come in, in words for them; empty if they do."""
    email, user = address_of(sociallogin), sociallogin.user
    if sociallogin.state.get("process") != AuthProcess.LOGIN:
        return "This log-in was not started here."
    if not email or sociallogin.account.extra_data.get("email_denied"):
        return "Your provider did not confirm an e-mail address."
    if not identity_providers.vouches_for(provider, email):
        return "The domain of your e-mail address is not verified for this organization."
    if not sociallogin.is_existing:
        taken = EmailAddress.objects.filter(email=email, verified=True).exists()
        return "Another account here has this address; remove it there first." if taken else ""
    if user.is_staff:
        # Else a customer's administrator could make themselves staff of the platform.
        return "Staff log in with their own password."
    if not identity_providers.vouches_for(provider, user.email):
        return "Your account has moved to an address outside of this organization."
    return ""


def refuse(request: HttpRequest, problem: str) -> HttpResponse:
    return render(request, "socialaccount/refused.html", {"problem": problem}, status=403)


def is_required_for(user: User) -> bool:
    """Whether this person logs in by their organization's provider and by no other way."""
    return not user.is_staff and identity_providers.get_enforcing(user.email) is not None


def _forget_unproven(sociallogin: SocialLogin) -> None:
    """Drop what was claimed with this address and never proved: its owner is here now.

    Whoever signed up with it must not keep a way in: allauth drops the password of
    such an account, here go its second factors, because a passkey would be one.
    """
    waiting = EmailAddress.objects.filter(email=address_of(sociallogin), verified=False)
    waiting.exclude(user__email=address_of(sociallogin)).delete()
    if not sociallogin._did_authenticate_by_email:
        return
    proven = EmailAddress.objects.filter(user=sociallogin.user, verified=True)
    if not proven.filter(email=sociallogin.user.email).exists():
        Authenticator.objects.filter(user=sociallogin.user).delete()


def settle(request: HttpRequest, user: User, sociallogin: SocialLogin, address: str | None) -> None:
    """After the log-in is complete: their membership, and what the provider said of it."""
    provider = provider_of(sociallogin)
    join_by_provider(provider, user=user, address=address)
    if says_multi_factor(sociallogin.account.extra_data):
        request.session[FACTOR_OF_PROVIDER] = provider.organization_id
    mine, _ = EmailAddress.objects.get_or_create(
        user=user, email=user.email, defaults={"primary": True}
    )
    mine.set_verified()
