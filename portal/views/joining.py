"""Joining by invitation: the link, what it offers, taking it up.

The link's address holds a secret. It is left at once for one without; nothing here
answers with an error under it, because errors are logged with their address.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from allauth.account.internal.flows.email_verification import verify_email_indirectly
from django.contrib import messages
from django.contrib.auth import logout
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from portal import invited
from portal.pages import user_of
from tenants.errors import InvitationInvalid

View = Callable[..., HttpResponseBase]


def private(view: View) -> View:
    """No Referer leaves these pages, and no log line names the address of one."""

    @wraps(view)
    def page(request: HttpRequest, **kwargs: Any) -> HttpResponseBase:
        response = view(request, **kwargs)
        response.headers["Referrer-Policy"] = "no-referrer"
        response._has_been_logged = True  # type: ignore[attr-defined]  # django.utils.log
        return response

    return page


@never_cache
def open_link(request: HttpRequest, token: str) -> HttpResponse:
    """The same answer for every link; what it is worth shows on the next page."""
    invited.remember(request, token)
    return redirect("invitation")


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
@private
def invitation(request: HttpRequest) -> HttpResponse:
    """What the visitor is invited to; a POST takes it up."""
    found = invited.invitation_of(request)
    if found is None:
        return _gone(request)
    is_theirs = request.user.is_authenticated and request.user.email.lower() == found.email
    if request.method == "POST":
        if not request.user.is_authenticated:
            return redirect_to_login(reverse("invitation"))
        if is_theirs:
            return _accept(request)
    context = {
        "invitation": found,
        "organization_name": found.organization.name,
        "is_theirs": is_theirs,
    }
    return render(request, "portal/invitation.html", context)


def _accept(request: HttpRequest) -> HttpResponse:
    user = user_of(request)
    try:
        membership = invited.accept(request, user)
    except InvitationInvalid:
        return _gone(request)
    # The link came by mail to this address.
    verify_email_indirectly(request, user, user.email)
    messages.success(request, gettext("Welcome. You are a member now."))
    return redirect("overview", membership.organization.public_id)


@require_POST
@never_cache
def switch_account(request: HttpRequest) -> HttpResponse:
    """Log out, which empties the session, and keep the invitation."""
    token = invited.token_of(request)
    logout(request)
    if token is not None:
        invited.remember(request, token)
    return redirect("invitation")


@require_POST
@never_cache
def dismiss(request: HttpRequest) -> HttpResponse:
    invited.forget(request)
    return redirect("home")


def _gone(request: HttpRequest) -> HttpResponse:
    """One page for used, expired, withdrawn and unknown links."""
    invited.forget(request)
    return render(request, "portal/invitation_gone.html", status=410)
