"""The OpenAPI document, a page to read it on, and the answer of addresses that are none."""

from __future__ import annotations

import secrets

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from api.errors import api_error
from api.management.errors import response_of
from api.management.schema import document
from api.management.unsupported import UnknownEndpoint

# Redoc styles itself inline and searches in a worker that it makes; it loads nothing from elsewhere.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self' data:; connect-src 'self'; worker-src blob:; "
    "child-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@require_safe
def openapi(request: HttpRequest) -> HttpResponse:
    """The document, for everybody: it says nothing of any organization."""
    response = HttpResponse(document(), content_type="application/json")
    response.headers["cache-control"] = "public, max-age=300"
    return response


@require_safe
def browse(request: HttpRequest) -> HttpResponse:
    response = render(request, "docs/management.html")
    response.headers["Content-Security-Policy"] = POLICY
    return response


@csrf_exempt
def unknown(request: HttpRequest) -> HttpResponse:
    told = f"Unknown request URL: {request.method} {request.path[:200]}."
    response = response_of(api_error(UnknownEndpoint(told)))
    response.headers["x-request-id"] = secrets.token_hex(12)
    return response
