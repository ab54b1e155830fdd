"""Who stands behind a log-in from outside, and what their word is worth here.

Two kinds: an organization's own provider (``organization_login``) and the platform's
(``social_login``). The adapter in ``single_sign_on`` treats both alike.
"""

from __future__ import annotations

from typing import Any, Protocol

from allauth.account.models import EmailAddress
from allauth.socialaccount.models import SocialApp, SocialLogin
from django.http import HttpRequest
from django.utils.functional import Promise
from django.utils.translation import override

from tenants.models import User


class Refused(Exception):
    """Why this person does not come in, in words for them; ``leads_to`` is where they can."""

    def __init__(self, problem: str | Promise, leads_to: str = ""):
        super().__init__(problem)
        self.problem = problem
        self.leads_to = leads_to

    @property
    def reason(self) -> str:
        return in_english(self.problem)


def in_english(problem: str | Promise) -> str:
    """As the audit trail keeps it: whoever reads it later need not read the language of then."""
    with override("en"):
        return str(problem)


class IdentitySource(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def is_single_sign_on(self) -> bool:
        """Whether it lets in people of whom their organization requires its provider."""

    @property
    def takes_user_info(self) -> bool:
        """Whether an address may come from the user info, which nobody signed."""

    def build_app(self) -> SocialApp:
        """allauth's view of it, with itself as ``source``. It is never saved."""

    def account_id(self, subject: str) -> str:
        """What an account is linked under, beside the handle."""

    def denies_email(self, claims: dict[str, Any]) -> bool: ...

    def vouches_for(self, email: str) -> bool:
        """Whether every address of this domain is confirmed by its word."""

    def check(self, request: HttpRequest, sociallogin: SocialLogin) -> None:
        """Refused, unless this person may come in. Nothing has been changed yet."""

    def welcome(self, request: HttpRequest, sociallogin: SocialLogin) -> None:
        """In the transaction that makes a new account."""

    def settle(self, request: HttpRequest, user: User, sociallogin: SocialLogin) -> None:
        """After the log-in is complete, second factor included."""

    def record_refused(self, request: HttpRequest, reason: str, user: User | None = None) -> None:
        """Into the audit trail; ``user`` is whom the log-in would have opened."""


def source_of(sociallogin: SocialLogin) -> IdentitySource:
    found: IdentitySource = sociallogin.provider.app.source
    return found


def address_of(sociallogin: SocialLogin) -> str:
    addresses = sociallogin.email_addresses
    return str(addresses[0].email).lower() if addresses else ""


def confirm_address(user: User) -> None:
    """The source vouches for the log-in name."""
    mine, _ = EmailAddress.objects.get_or_create(
        user=user, email=user.email, defaults={"primary": True}
    )
    mine.set_verified()
