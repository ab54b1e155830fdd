"""The frame of an organization's pages: who looks, at what, and what they may do."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache

from portal import impersonation, navigation, second_factor
from portal.reach import reach_of
from tenants import access, announcements, scope, selectors
from tenants.models import Membership, Project, User

LAST_ORGANIZATION = "last_organization"
# In the menu of the frame: more would hide the organizations below them.
MOST_PROJECTS = 6

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
            membership = impersonation.access_page(request, organization_id, permission)
            if second_factor.is_missing(request, membership.organization):
                return redirect("second_factor_required", organization_id)
            is_own = membership.pk is not None  # a look leaves nothing behind
            if is_own and request.session.get(LAST_ORGANIZATION) != organization_id:
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
        "navigation": navigation.links_of(membership, tab),
        "announcements": announcements.get_announcements(membership.organization, user_of(request)),
        "switcher_projects": _switcher_projects(membership),
    }
    return render(request, template, frame | context, status=status)


def _switcher_projects(membership: Membership) -> list[Project]:
    """The first few projects that this member sees; their list and the search have the rest."""
    reach = reach_of(membership, "project.read")
    if not reach:
        return []
    found = selectors.get_projects(membership.organization, projects=reach.only)
    return list(found[:MOST_PROJECTS])


def user_of(request: HttpRequest) -> User:
    """Whoever is logged in; only for views behind ``login_required``."""
    assert isinstance(request.user, User)
    return request.user


def address_of(request: HttpRequest) -> str | None:
    """The client's address for the audit trail; ``TrustedProxyMiddleware`` made it true."""
    return request.META.get("REMOTE_ADDR") or None
