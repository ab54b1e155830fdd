"""How allauth signs people up and logs them in here."""

from __future__ import annotations

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.internal.stagekit import clear_login
from allauth.account.models import EmailAddress
from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.translation import gettext_lazy

from portal import account_audit, invited, sessions, single_sign_on
from portal.identity_sources import source_of
from tenants import identity_providers
from tenants.models import User

USE_SINGLE_SIGN_ON = gettext_lazy(
    "People with this address log in by their organization’s single sign-on. "
    "Please use “Log in with single sign-on”."
)


class AccountAdapter(DefaultAccountAdapter):
    error_messages = DefaultAccountAdapter.error_messages | {"single_sign_on": USE_SINGLE_SIGN_ON}

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        """Whoever came by an invitation may sign up, by the address that was invited."""
        return bool(settings.SIGNUP_OPEN) or invited.invitation_of(request) is not None

    def get_client_ip(self, request: HttpRequest) -> str:
        """What ``TrustedProxyMiddleware`` found out, not what a header claims."""
        return request.META.get("REMOTE_ADDR") or "unknown"

    # --- Logging in ---------------------------------------------------------------------

    def authenticate(self, request: HttpRequest, **credentials: Any) -> User | None:
        """The user, unless their organization lets them in by single sign-on only.

        That is said whatever the password was, also for addresses without account and
        for staff with a wrong password: the answer tells of the domain alone.
        """
        user: User | None = super().authenticate(request, **credentials)
        confirms_themselves = request.user.is_authenticated
        is_exempt = user is not None and user.is_staff
        if not confirms_themselves and not is_exempt:
            self.check_password_address(str(credentials.get("email", "")))
        return user

    def authentication_failed(self, request: HttpRequest, **credentials: Any) -> None:
        account_audit.record_failed_login(request, str(credentials.get("email", "")))

    def check_password_address(self, email: str) -> None:
        """ValidationError for an address that has no password here."""
        if identity_providers.get_enforcing(email) is not None:
            raise self.validation_error("single_sign_on")

    def pre_login(self, request: HttpRequest, user: User, **kwargs: Any) -> HttpResponse | None:
        """The last gate before a log-in of any kind: passkeys, sign-ups, resets too."""
        response: HttpResponse | None = super().pre_login(request, user, **kwargs)
        sociallogin = (kwargs.get("signal_kwargs") or {}).get("sociallogin")
        is_by_provider = sociallogin is not None and source_of(sociallogin).is_single_sign_on
        if response is None and not is_by_provider and single_sign_on.is_required_for(user):
            clear_login(request)
            messages.error(request, USE_SINGLE_SIGN_ON)
            response = redirect("single_sign_on")
        return response

    def post_login(self, request: HttpRequest, user: User, **kwargs: Any) -> HttpResponse:
        sociallogin = (kwargs.get("signal_kwargs") or {}).get("sociallogin")
        if sociallogin is not None:
            source_of(sociallogin).settle(request, user, sociallogin)
        response: HttpResponse = super().post_login(request, user, **kwargs)
        sessions.mark_seen(request)
        return response

    # --- Addresses and passwords ----------------------------------------------------------

    def validate_unique_email(self, email: str) -> str:
        """Nobody signs up with an address that only single sign-on can prove."""
        self.check_password_address(email)
        return email

    def can_delete_email(self, email_address: EmailAddress) -> bool:
        # allauth would make another address the log-in name.
        is_login_name = email_address.email == email_address.user.email
        return not is_login_name and bool(super().can_delete_email(email_address))

    def send_confirmation_mail(
        self, request: HttpRequest, emailconfirmation: Any, signup: bool
    ) -> None:
        """A link, but not for the log-in name of another account: it could not be kept."""
        address = emailconfirmation.email_address
        if User.objects.exclude(pk=address.user_id).filter(email=address.email).exists():
            self.send_account_already_exists_mail(address.email)
        else:
            super().send_confirmation_mail(request, emailconfirmation, signup)

    def send_password_reset_mail(self, user: User, email: str, context: dict[str, Any]) -> None:
        """A link, or the word that there is no password. The page answers alike."""
        if not single_sign_on.is_required_for(user):
            super().send_password_reset_mail(user, email, context)
            return
        path = f"{reverse('single_sign_on')}?{urlencode({'name': user.email})}"
        url = context["request"].build_absolute_uri(path)
        self.send_mail("account/email/single_sign_on", email, {"single_sign_on_url": url})
