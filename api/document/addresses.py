"""Every address that programs may ask, out of the tables that route them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass

from api.asgi import COUNTERS, ENDPOINTS, RESOURCES, SCOPES
from api.resources import Route
from api.unsupported import OF_ROUTES

# Identifiers in the patterns of ``api.resources.route``.
_IDENTIFIER = re.compile(r"\([^)]*\)")
# What ``api.asgi`` tells apart by hand, with the scope that a key needs; none: any key's.
BY_HAND = [
    ("GET", "/v1/models", "models.read"),
    ("GET", "/v1/models/{model}", "models.read"),
    ("POST", "/v1/stream/tickets", None),
    ("GET", "/v1/stream", None),
    ("GET", "/v1/streams/{request_id}", None),
    ("POST", "/v1/streams/{request_id}", None),
]
# Addresses that answer and are in no document, with the reason.
LEFT_OUT = {
    "/healthz": "operators ask it",
    "/readyz": "operators ask it",
    "/metrics": "operators ask it",
    "/v1/openapi.json": "it is the document",
    "/v1/organization/openapi.json": "it is the document's part of the management API",
    "/docs/api/": "a page to read the document on",
    "/docs/management/": "leads to that page",
}


@dataclass(frozen=True)
class Address:
    method: str
    path: str  # identifiers in braces
    scope: str | None
    refused: str = ""  # why it is known and not served


def addresses() -> Iterator[Address]:
    for path in (*ENDPOINTS, *COUNTERS):
        yield Address("POST", path, SCOPES[path])
    for method, path, scope in BY_HAND:
        yield Address(method, path, scope)
    for routes in RESOURCES.values():
        for route in routes:
            yield address_of(route)


def address_of(route: Route) -> Address:
    """With its identifiers named as its handler names them."""
    names = [
        name
        for name, each in inspect.signature(route.handle).parameters.items()
        if name not in ("caller", "request") and each.kind is each.POSITIONAL_OR_KEYWORD
    ]
    path = route.pattern.pattern
    while _IDENTIFIER.search(path):
        name = names.pop(0) if names else "id"
        path = _IDENTIFIER.sub(f"{{{name}}}", path, count=1)
    reason = OF_ROUTES.get(route.handle, "")
    return Address(route.method, path, route.scope, reason and f"Not served here: {reason}")
