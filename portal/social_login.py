"""Social log-in: one OpenID Connect provider for everybody, named by the operator.

It speaks for persons and not for an organization: it confirms an address, opens that
address's account, and gives nothing else. No membership, no second factor.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

from allauth.account.models import EmailAddress
from allauth.socialaccount.models import SocialApp, SocialLogin
from django.conf import settings
from django.http import HttpRequest
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy

from portal import account_audit, invited
from portal.identity_sources import Refused, address_of, confirm_address
from tenants import identity_providers
from tenants.errors import InvitationInvalid
from tenants.models import IdentityProvider, User

# Handles of organizations' providers have a dot, so that none of them can be this one.
HANDLE = "social"
CLOSED = "Nobody can sign up here without an invitation to this very address."
LED_AWAY = "People with this address log in by their organization’s single sign-on."


@dataclass(frozen=True)
class OfPlatform:
    name: str
    issuer: str
    client_id: str
    client_secret: str = field(repr=False)
    is_single_sign_on = False
    takes_user_info = False

    def build_app(self) -> SocialApp:
        app = SocialApp(
            provider=IdentityProvider.Protocol.OIDC,
            provider_id=HANDLE,
            name=self.name[:40],
            client_id=self.client_id,
            secret=self.client_secret,
        )
        app.settings = {"server_url": self.issuer, "oauth_pkce_enabled": True}
        app.source = self
        return app

    def account_id(self, subject: str) -> str:
        """Subjects are unique for one issuer: after a change of provider they open nothing."""
        issuer = hashlib.sha256(self.issuer.rstrip("/").encode()).hexdigest()[:16]
        return f"{issuer}:{subject}"

    def denies_email(self, claims: dict[str, Any]) -> bool:
        """Unless it says that the address is confirmed; Apple says so in a string."""
        confirmed = claims.get("email_verified")
        return confirmed is not True and confirmed != "true"

    def vouches_for(self, email: str) -> bool:
        return False  # Of no domain as such: each ID token tells of its own address.

    def check(self, request: HttpRequest, sociallogin: SocialLogin) -> None:
        email, user = address_of(sociallogin), sociallogin.user
        if not email or sociallogin.account.extra_data.get("email_denied"):
            raise Refused(
                format_lazy(
                    gettext_lazy("{name} did not confirm your e-mail address."), name=self.name
                )
            )
        is_known = sociallogin.is_existing
        if is_known:
            _check_open(user)
        _check_not_enforced(user.email if is_known else email)
        if not is_known or sociallogin._did_authenticate_by_email:
            _check_proved_by_no_other(email, user)
        if not is_known and not settings.SIGNUP_OPEN and not _is_invited(request, email):
            raise Refused(CLOSED)

    def welcome(self, request: HttpRequest, sociallogin: SocialLogin) -> None:
        """As at the sign-up page: whoever is invited by this address joins with the account."""
        if not _is_invited(request, address_of(sociallogin)):
            return
        try:
            invited.accept(request, sociallogin.user)
        except InvitationInvalid as error:  # taken up or withdrawn meanwhile
            raise Refused(CLOSED) from error
        sociallogin.state["next"] = reverse("home")

    def settle(self, request: HttpRequest, user: User, sociallogin: SocialLogin) -> None:
        # The subject may have another address by now; nobody has proved the account's then.
        if address_of(sociallogin) == user.email:
            confirm_address(user)

    def record_refused(self, request: HttpRequest, reason: str, user: User | None = None) -> None:
        account_audit.record_refused_social(request, HANDLE, reason, user)


def get_source() -> OfPlatform | None:
    """The operator's provider; the settings refuse one of which a part is missing."""
    if not settings.SOCIAL_LOGIN_NAME:
        return None
    return OfPlatform(
        name=settings.SOCIAL_LOGIN_NAME,
        issuer=settings.SOCIAL_LOGIN_ISSUER,
        client_id=settings.SOCIAL_LOGIN_CLIENT_ID,
        client_secret=settings.SOCIAL_LOGIN_CLIENT_SECRET,
    )


def _is_invited(request: HttpRequest, email: str) -> bool:
    invitation = invited.invitation_of(request)
    return invitation is not None and invitation.email == email


def _check_open(user: User) -> None:
    if user.is_staff:
        # Staff's second factor and password are ours to ask for, nobody else's to replace.
        raise Refused(gettext_lazy("Staff log in with their own password."))
    if not user.is_active:
        raise Refused(gettext_lazy("This account is closed."))


def _check_not_enforced(email: str) -> None:
    if identity_providers.get_enforcing(email) is not None:
        query = urlencode({"name": email})
        raise Refused(LED_AWAY, leads_to=f"{reverse('single_sign_on')}?{query}")


def _check_proved_by_no_other(email: str, user: User) -> None:
    """An account that proved the address keeps it, also as one beside its log-in name."""
    if EmailAddress.objects.filter(email=email, verified=True).exclude(user_id=user.pk).exists():
        raise Refused(gettext_lazy("Another account here has this address; remove it there first."))
