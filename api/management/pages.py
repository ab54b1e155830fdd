"""The management API's own document, and the answer of addresses that are none."""

from __future__ import annotations

import secrets

from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from api.errors import api_error
from api.management.errors import response_of
from api.management.schema import document
from api.management.unsupported import UnknownEndpoint


@require_safe
def openapi(request: HttpRequest) -> HttpResponse:
    """The document, for everybody: it says nothing of any organization."""
    response = HttpResponse(document(), content_type="application/json")
    response.headers["cache-control"] = "public, max-age=300"
    return response


@csrf_exempt
def unknown(request: HttpRequest) -> HttpResponse:
    told = f"Unknown request URL: {request.method} {request.path[:200]}."
    response = response_of(api_error(UnknownEndpoint(told)))
    response.headers["x-request-id"] = secrets.token_hex(12)
    return response
