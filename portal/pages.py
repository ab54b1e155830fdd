"""The frame of an organization's pages: who looks, at what, and what they may do."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache

from portal import second_factor
from tenants import access, scope
from tenants.models import Membership, User

LAST_ORGANIZATION = "last_organization"

PageView = Callable[..., HttpResponseBase]


def organization_page(permission: str) -> Callable[[PageView], PageView]:
    """``view(request, membership, …)`` for a member whose role has ``permission``.

    A stranger gets the same 404 as for an organization that does not exist.
    """

    def decorate(view: PageView) -> PageView:
        @never_cache
        @login_required
        @wraps(view)
        def page(request: HttpRequest, organization_id: str, **kwargs: Any) -> HttpResponseBase:
            membership = access.access_membership(user_of(request), organization_id, permission)
            if second_factor.is_missing(request, membership.organization):
                return redirect("second_factor_required", organization_id)
            if request.session.get(LAST_ORGANIZATION) != organization_id:
                request.session[LAST_ORGANIZATION] = organization_id
            with scope.for_organization(membership.organization_id):
                return view(request, membership, **kwargs)

        return page

    return decorate


def render_page(
    request: HttpRequest,
    membership: Membership,
    template: str,
    context: dict[str, Any],
    *,
    tab: str,
    status: int = 200,
) -> HttpResponse:
    """The template inside the organization's navigation, with ``tab`` marked."""
    frame = {
        "membership": membership,
        "organization": membership.organization,
        "memberships": access.get_memberships(user_of(request)),
        "tab": tab,
    }
    return render(request, template, frame | context, status=status)


def user_of(request: HttpRequest) -> User:
    """Whoever is logged in; only for views behind ``login_required``."""
    assert isinstance(request.user, User)
    return request.user


def address_of(request: HttpRequest) -> str | None:
    """The client's address for the audit trail; ``TrustedProxyMiddleware`` made it true."""
    return request.META.get("REMOTE_ADDR") or None
