"""The document for programs, and a page for people to read it on."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.gzip import gzip_page
from django.views.decorators.http import condition, require_safe

# Redoc styles itself inline and searches in a worker that it makes; it loads nothing from elsewhere.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self' data:; connect-src 'self'; worker-src blob:; "
    "child-src blob:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


def _etag(request: HttpRequest) -> str:
    from api.document.document import etag

    return etag()


@require_safe
@gzip_page
@condition(etag_func=_etag)
def openapi(request: HttpRequest) -> HttpResponse:
    """For everybody: it says nothing of any organization."""
    # Here, because it imports everything that answers, which no other page needs.
    from api.document.document import document

    response = HttpResponse(document(), content_type="application/json")
    response.headers["cache-control"] = "public, max-age=300"
    return response


@require_safe
def browse(request: HttpRequest) -> HttpResponse:
    response = render(request, "docs/api.html")
    response.headers["Content-Security-Policy"] = POLICY
    return response


@require_safe
def browse_management(request: HttpRequest) -> HttpResponse:
    """Where the page was while it told of the management API alone."""
    return redirect("api_docs", permanent=True)
