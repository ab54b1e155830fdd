"""Logging in by a provider from outside: who comes in, as whom, and who must.

allauth speaks the protocols. This adapter hands it providers made from the tenants
room's rows and the operator's settings, so that no secret lies in allauth's own table.
What each kind is worth stands beside: ``organization_login`` and ``social_login``.
"""

from __future__ import annotations

from typing import Any

from allauth.account.models import EmailAddress
from allauth.core.exceptions import ImmediateHttpResponse
from allauth.mfa.models import Authenticator
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from allauth.socialaccount.models import SocialAccount, SocialApp, SocialLogin
from allauth.socialaccount.providers.base.constants import AuthProcess
from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy

from portal import social_login
from portal.identity_sources import IdentitySource, Refused, address_of, source_of
from portal.organization_login import OfOrganization
from portal.provider_http import ProviderSession
from tenants import identity_providers
from tenants.models import IdentityProvider, User


class SocialAccountAdapter(DefaultSocialAccountAdapter):
    def list_apps(
        self, request: HttpRequest, provider: str | None = None, client_id: str | None = None
    ) -> list[SocialApp]:
        """At most the one that is asked for by its handle: nobody lists tenants' providers."""
        is_saml = provider == IdentityProvider.Protocol.SAML
        source = _get_organization(client_id) if is_saml else get_source(provider)
        return [source.build_app()] if source is not None else []

    def get_requests_session(self) -> ProviderSession:
        return ProviderSession()

    def is_email_verified(self, provider: Any, email: str) -> bool:
        source: IdentitySource = provider.app.source
        return source.vouches_for(email)

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
        source = source_of(sociallogin)
        try:
            if sociallogin.state.get("process") != AuthProcess.LOGIN:
                raise Refused(gettext_lazy("This log-in was not started here."))
            source.check(request, sociallogin)
        except Refused as refused:
            known = sociallogin.user if sociallogin.is_existing else None
            source.record_refused(request, refused.reason, known)
            raise ImmediateHttpResponse(_answer(request, refused)) from refused
        _forget_unproven(sociallogin)

    def save_user(self, request: HttpRequest, sociallogin: SocialLogin, form: Any = None) -> User:
        source = source_of(sociallogin)
        try:
            with transaction.atomic():
                user: User = super().save_user(request, sociallogin, form)
                source.welcome(request, sociallogin)
        except Refused as refused:
            source.record_refused(request, refused.reason)
            raise ImmediateHttpResponse(_answer(request, refused)) from refused
        return user

    def on_authentication_error(
        self,
        request: HttpRequest,
        provider: Any,
        error: Any = None,
        exception: Exception | None = None,
        extra_context: dict[str, Any] | None = None,
    ) -> None:
        reason = type(exception).__name__ if exception else str(error)
        source: IdentitySource = provider.app.source
        source.record_refused(request, reason)


def get_source(handle: str | None) -> IdentitySource | None:
    """Whose log-in address this is."""
    return social_login.get_source() if handle == social_login.HANDLE else _get_organization(handle)


def _get_organization(handle: str | None) -> OfOrganization | None:
    provider = identity_providers.get_by_handle(handle or "")
    return OfOrganization(provider) if provider is not None else None


def refuse(request: HttpRequest, problem: str | Promise) -> HttpResponse:
    return render(request, "socialaccount/refused.html", {"problem": problem}, status=403)


def _answer(request: HttpRequest, refused: Refused) -> HttpResponse:
    if not refused.leads_to:
        return refuse(request, refused.problem)
    messages.error(request, str(refused.problem))
    return redirect(refused.leads_to)


def is_required_for(user: User) -> bool:
    """Whether this person logs in by their organization's provider and by no other way."""
    return not user.is_staff and identity_providers.get_enforcing(user.email) is not None


def _forget_unproven(sociallogin: SocialLogin) -> None:
    """Drop what was claimed with this address and never proved: its owner is here now.

    Whoever signed up with it must not keep a way in: allauth drops the password of such
    an account, here go its second factors, because a passkey would be one, and its links.
    """
    waiting = EmailAddress.objects.filter(email=address_of(sociallogin), verified=False)
    waiting.exclude(user__email=address_of(sociallogin)).delete()
    if not sociallogin._did_authenticate_by_email:
        return
    proven = EmailAddress.objects.filter(user=sociallogin.user, verified=True)
    if not proven.filter(email=sociallogin.user.email).exists():
        Authenticator.objects.filter(user=sociallogin.user).delete()
        SocialAccount.objects.filter(user=sociallogin.user).delete()
