"""What holds for every page: the client's address, the security policy, errors as pages."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from portal.views import errors
from tenants import addresses, scope
from tenants.errors import TenantError

ADMIN_PATH = "/admin/"
Handler = Callable[[HttpRequest], HttpResponse]

# No header can set a META entry without the HTTP_ prefix, so only we write this one.
SCHEME_META = "SLUICE_FORWARDED_PROTO"

# Our pages carry no inline script or style and load nothing from elsewhere.
PAGES_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
# The staff admin (unfold) evaluates Alpine.js attributes, which takes 'unsafe-eval', and
# writes its colours into a style element; a script in its pages runs from a file only.
ADMIN_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


class TrustedProxyMiddleware:
    """``REMOTE_ADDR`` and the scheme become the client's, if a trusted proxy says so."""

    def __init__(self, get_response: Handler):
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        remote = request.META.get("REMOTE_ADDR") or ""
        proxies = addresses.parse_proxies(tuple(settings.TRUSTED_PROXIES))
        if addresses.is_trusted(remote, proxies):
            forwarded_for = request.META.get("HTTP_X_FORWARDED_FOR", "")
            client = addresses.client_address(remote, forwarded_for, proxies)
            request.META["REMOTE_ADDR"] = client or remote
            # The nearest proxy's word is the last one.
            scheme = request.META.get("HTTP_X_FORWARDED_PROTO", "").rpartition(",")[2]
            request.META[SCHEME_META] = scheme.strip().lower()
        return self.get_response(request)


class SecurityPolicyMiddleware:
    """A strict Content-Security-Policy on every page, and what else a browser should refuse."""

    def __init__(self, get_response: Handler):
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        match = request.resolver_match
        is_admin = match is not None and "admin" in match.app_names
        policy = ADMIN_POLICY if is_admin else PAGES_POLICY
        response.headers.setdefault("Content-Security-Policy", policy)
        response.headers.setdefault(
            "Permissions-Policy",
            "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
        )
        return response


class TenantScopeMiddleware:
    """A page sees what its visitor may: staff pages every tenant, others one's own."""

    def __init__(self, get_response: Handler):
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        with self._scope_of(request):
            return self.get_response(request)

    def _scope_of(self, request: HttpRequest) -> AbstractContextManager[None]:
        user = request.user
        # The same resolution that chooses the view: no header decides.
        is_staff_page = request.path_info.startswith(ADMIN_PATH)
        if is_staff_page and user.is_authenticated and user.is_staff and user.is_active:
            return scope.for_staff()
        return scope.for_user(user.pk if user.is_authenticated else None)


class TenantErrorMiddleware:
    """A room's error becomes the error page of its status, the same for absent and foreign."""

    def __init__(self, get_response: Handler):
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        if isinstance(error, TenantError):
            return errors.tenant_error(request, error)
        return None
