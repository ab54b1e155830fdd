"""What an organization's own provider is worth: its verified domains (ADR 0015)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from allauth.account.models import EmailAddress
from allauth.socialaccount.models import SocialApp, SocialLogin
from django.http import HttpRequest
from django.utils.translation import gettext_lazy

from portal import account_audit
from portal.identity_sources import Refused, address_of, confirm_address
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


@dataclass(frozen=True)
class OfOrganization:
    provider: IdentityProvider
    is_single_sign_on = True
    takes_user_info = True

    @property
    def name(self) -> str:
        return self.provider.name

    def build_app(self) -> SocialApp:
        provider = self.provider
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
        app.source = self
        return app

    def account_id(self, subject: str) -> str:
        return subject

    def denies_email(self, claims: dict[str, Any]) -> bool:
        """Only if it says so: many companies' providers never say ``email_verified``."""
        return claims.get("email_verified") in (False, "false")

    def vouches_for(self, email: str) -> bool:
        return identity_providers.vouches_for(self.provider, email)

    def check(self, request: HttpRequest, sociallogin: SocialLogin) -> None:
        email, user = address_of(sociallogin), sociallogin.user
        if not email or sociallogin.account.extra_data.get("email_denied"):
            raise Refused(gettext_lazy("Your provider did not confirm an e-mail address."))
        if not self.vouches_for(email):
            raise Refused(
                gettext_lazy(
                    "The domain of your e-mail address is not verified for this organization."
                )
            )
        if not sociallogin.is_existing:
            if EmailAddress.objects.filter(email=email, verified=True).exists():
                raise Refused(
                    gettext_lazy("Another account here has this address; remove it there first.")
                )
            return
        if user.is_staff:
            # Else a customer's administrator could make themselves staff of the platform.
            raise Refused(gettext_lazy("Staff log in with their own password."))
        if not self.vouches_for(user.email):
            raise Refused(
                gettext_lazy("Your account has moved to an address outside of this organization.")
            )

    def welcome(self, request: HttpRequest, sociallogin: SocialLogin) -> None:
        pass  # Whoever comes joins, each time: ``settle``.

    def settle(self, request: HttpRequest, user: User, sociallogin: SocialLogin) -> None:
        """Their membership, and what the provider said of them."""
        join_by_provider(self.provider, user=user, address=request.META.get("REMOTE_ADDR"))
        if says_multi_factor(sociallogin.account.extra_data):
            request.session[FACTOR_OF_PROVIDER] = self.provider.organization_id
        confirm_address(user)

    def record_refused(self, request: HttpRequest, reason: str, user: User | None = None) -> None:
        account_audit.record_refused_provider(request, self.provider, reason)
