"""A staff member's look at an organization's portal: what the session may then do.

Rules and events are ``tenants.impersonation``; here every request is held to them. Only
reading passes, whatever page it is, and each page of the organization is put on record.
"""

from __future__ import annotations

from collections.abc import Callable

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from tenants import access, impersonation
from tenants.errors import AccessDenied
from tenants.impersonation import Look
from tenants.models import Membership, User

READING = frozenset({"GET", "HEAD", "OPTIONS"})
REFUSAL = gettext_noop("You look at this organization as staff: nothing can be changed.")
# What may be posted all the same: the way out, twice.
_WAYS_OUT = ("impersonation_end", "account_logout")
_API = "/v1/"
# Pages of prompts, answers and files: a look sees how much, never what.
CONTENT_PAGES = frozenset({"file_content"})


class ImpersonationMiddleware:
    """Ends a look whose time is up, and refuses whatever is no reading."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]):
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        look = impersonation.get_look(request.session, request.user)
        if look is not None and _has_ended(request, look):
            messages.info(request, _("Your look at %(name)s has ended.") % {"name": look.name})
            if request.path_info.startswith(f"/o/{look.public_id}/"):
                return redirect("home")
            look = None
        request.impersonation = look  # type: ignore[attr-defined]
        if look is not None and request.method not in READING:
            is_way_out = request.path_info in {reverse(name) for name in _WAYS_OUT}
            if not is_way_out:
                return _refuse(request)
            _end(request, look)
        return self.get_response(request)


def _has_ended(request: HttpRequest, look: Look) -> bool:
    """By time, or because this account may look no longer."""
    assert isinstance(request.user, User)
    if not look.is_over and impersonation.may_look(request.user):
        return False
    _end(request, look)
    return True


def _end(request: HttpRequest, look: Look) -> None:
    assert isinstance(request.user, User)
    address = request.META.get("REMOTE_ADDR") or None
    impersonation.end_look(request.session, look, acting_user=request.user, address=address)


def _refuse(request: HttpRequest) -> HttpResponse:
    if request.path_info.startswith(_API):
        error = {
            "message": REFUSAL,
            "type": "invalid_request_error",
            "param": None,
            "code": "insufficient_permissions",
        }
        return JsonResponse({"error": error}, status=403)
    return render(request, "403.html", {"reason": _(REFUSAL)}, status=403)


def look_of(request: HttpRequest) -> Look | None:
    """None also on pages that the middleware never saw: those of errors."""
    found: Look | None = getattr(request, "impersonation", None)
    return found


def access_page(request: HttpRequest, organization_id: str, permission: str) -> Membership:
    """The visitor's membership, or a look's, of which this page is then recorded.

    Raises NotFound and AccessDenied as ``tenants.access.access_membership``.
    """
    assert isinstance(request.user, User)
    look = look_of(request)
    if look is None or look.public_id != organization_id:
        return access.access_membership(request.user, organization_id, permission)
    if request.resolver_match is not None and request.resolver_match.url_name in CONTENT_PAGES:
        raise AccessDenied("Staff see no content of requests and files.")
    impersonation.record_page(
        look,
        request.path_info,
        acting_user=request.user,
        address=request.META.get("REMOTE_ADDR") or None,
    )
    membership = impersonation.access_membership(look, request.user)
    access.check_permission(membership, permission)
    return membership
