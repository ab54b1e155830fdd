"""Error pages: the same calm frame for each, no detail that a stranger could use."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template import loader

from tenants.errors import TenantError


def bad_request(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return render(request, "400.html", status=400)


def permission_denied(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return render(request, "403.html", status=403)


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return render(request, "404.html", status=404)


def server_error(request: HttpRequest) -> HttpResponse:
    """Without context processors: whatever broke may be one of them."""
    context: dict[str, Any] = {"engine_is_simulated": settings.ENGINE == "simulated"}
    return HttpResponse(loader.get_template("500.html").render(context), status=500)


def too_many_requests(request: HttpRequest, retry_after_s: int) -> HttpResponse:
    minutes = -(-retry_after_s // 60)
    response = render(request, "429.html", {"minutes": minutes}, status=429)
    response.headers["Retry-After"] = str(retry_after_s)
    return response


def tenant_error(request: HttpRequest, error: TenantError) -> HttpResponse:
    """A 403 tells its reason, which names a role or a suspension; nothing else says more."""
    if error.status == 403:
        return render(request, "403.html", {"reason": error.message}, status=403)
    if error.status == 404:
        return not_found(request)
    return render(request, "400.html", {"reason": error.message}, status=error.status)
