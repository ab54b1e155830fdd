"""A person's own security: what there is, second factors set up, sessions ended."""

from __future__ import annotations

from allauth.account.internal.flows.login import record_authentication
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.forms import ActivateTOTPForm
from allauth.mfa.totp.views import ActivateTOTPView
from allauth.mfa.webauthn.views import AddWebAuthnView
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils.translation import gettext, ngettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from portal import impersonation, second_factor, sessions, single_sign_on
from portal.account_forms import AddPasskeyForm
from portal.pages import user_of
from portal.ratelimits import View
from tenants import access


@require_safe
@never_cache
@login_required
def security(request: HttpRequest) -> HttpResponse:
    """Everything that protects an account, on one page."""
    user = user_of(request)
    factors = list(Authenticator.objects.filter(user=user).order_by("created_at", "pk"))
    by_type = {kind: [f for f in factors if f.type == kind] for kind in Authenticator.Type}
    codes = by_type[Authenticator.Type.RECOVERY_CODES]
    context = {
        "memberships": access.get_memberships(user),
        "addresses": EmailAddress.objects.filter(user=user).order_by("-primary", "email"),
        "totp": next(iter(by_type[Authenticator.Type.TOTP]), None),
        "passkeys": by_type[Authenticator.Type.WEBAUTHN],
        "codes_left": len(codes[0].wrap().get_unused_codes()) if codes else None,
        "sessions": sessions.get_sessions(request, user),
        "single_sign_on_only": single_sign_on.is_required_for(user),
    }
    return render(request, "portal/security.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
@login_required
def list_sessions(request: HttpRequest) -> HttpResponse:
    """Where the person is logged in; a POST ends one (``session``) or all others."""
    user = user_of(request)
    if request.method == "POST":
        chosen = request.POST.get("session", "")
        if chosen:
            sessions.end_session(request, user, int(chosen) if chosen.isdecimal() else 0)
            messages.success(request, gettext("That session is logged out."))
        else:
            ended = sessions.end_other_sessions(request, user)
            messages.success(
                request,
                ngettext(
                    "%(count)d other session logged out.",
                    "%(count)d other sessions logged out.",
                    ended,
                )
                % {"count": ended},
            )
        return redirect("usersessions_list")
    context = {
        "memberships": access.get_memberships(user),
        "sessions": sessions.get_sessions(request, user),
    }
    return render(request, "portal/sessions.html", context)


@require_safe
@never_cache
@login_required
def second_factor_required(request: HttpRequest, organization_id: str) -> HttpResponse:
    """Why an organization's pages are closed to this session, and the way in."""
    user = user_of(request)
    membership = impersonation.access_page(request, organization_id, "usage.read")
    if not second_factor.is_missing(request, membership.organization):
        return redirect("overview", organization_id)
    kinds = set(Authenticator.objects.filter(user=user).values_list("type", flat=True))
    context = {
        "memberships": access.get_memberships(user),
        "asking": membership.organization,
        "has_code": Authenticator.Type.TOTP in kinds,
        "has_passkey": Authenticator.Type.WEBAUTHN in kinds,
    }
    return render(request, "portal/second_factor_required.html", context, status=403)


class ActivateTotp(ActivateTOTPView):
    """The code that sets it up shows the factor, so nobody is asked again at once."""

    def form_valid(self, form: ActivateTOTPForm) -> HttpResponse:
        response: HttpResponse = super().form_valid(form)
        record_authentication(self.request, user_of(self.request), "mfa", type="totp")
        return response


class AddPasskey(AddWebAuthnView):
    def form_valid(self, form: AddPasskeyForm) -> HttpResponse:
        response: HttpResponse = super().form_valid(form)
        record_authentication(self.request, user_of(self.request), "mfa", type="webauthn")
        return response


def not_under_single_sign_on(view: View) -> View:
    """``view``, whose POSTs are not for people whom only their provider lets in.

    A password or an address of their own would outlive what the organization withdraws.
    """

    def guarded(request: HttpRequest, *args: object, **kwargs: object) -> HttpResponseBase:
        is_change = request.method == "POST" and request.user.is_authenticated
        if is_change and single_sign_on.is_required_for(user_of(request)):
            messages.error(request, gettext("Your organization manages how you log in."))
            return redirect("mfa_index")
        return view(request, *args, **kwargs)

    return guarded
