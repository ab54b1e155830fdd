"""The OpenAPI document of the whole surface: nothing is missing, and what is there holds together."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from django.test import Client
from django.urls import get_resolver

import api.asgi
from api.document.addresses import LEFT_OUT, addresses
from api.document.document import document
from api.document.errors import CATALOGUE
from api.document.operations import DESCRIBED
from api.management.schema import views_of
from tenants.permissions import KEY_SCOPES
from tests.api.reference import DOCUMENT, OPERATIONS, SHAPES, TOKEN_PATH, body_schema, check

# What Django's addresses come from, and those that are pages for people alone.
PAGES = ("api.urls", "portal.urls")
PEOPLES = ("admin/", "i18n/", "jsi18n/")
BODIES = [each for each in OPERATIONS if "requestBody" in each[2]]


def name_of(value: Any) -> str:
    return value if isinstance(value, str) else ""


def test_every_address_that_is_routed_is_described() -> None:
    """A new route fails here by its name, until ``api.document.operations`` tells of it."""
    routed = {(each.method, each.path) for each in addresses() if not each.refused}
    assert routed - set(DESCRIBED) == set(), "not described"
    assert set(DESCRIBED) - routed == set(), "described, and not routed"
    assert {(m, p) for m, p, _ in TOKEN_PATH} == {(a.method, a.path) for a in addresses()}


def test_every_path_that_the_token_path_tells_apart_is_there() -> None:
    """Also those that are written into its code instead of a table."""
    text = Path(api.asgi.__file__ or "").read_text()
    written = {
        node.value
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.fullmatch(r"/v1/[a-z_/]+\w|/v1/streams/", node.value)
    }
    assert len(written) > 10
    paths = {*DOCUMENT["paths"], *LEFT_OUT, *api.asgi.MANAGEMENT_PATHS}
    for path in written:
        assert any(p == path or p.startswith(path.rstrip("/") + "/") for p in paths), path


def test_every_address_of_django_is_there_or_left_out_for_a_reason() -> None:
    for each in get_resolver().url_patterns:
        included = getattr(getattr(each, "urlconf_name", None), "__name__", "")
        assert included in PAGES or str(each.pattern).startswith(PEOPLES), each
    from api import urls

    views = {route for route, _ in views_of(urls.urlpatterns)}
    for pattern in urls.urlpatterns:
        route = str(pattern.pattern)
        path = "/" + re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", route)
        is_rest = route.startswith("^v1/(?:")  # answers that there is no such path
        assert is_rest or path in LEFT_OUT or (route in views and path in DOCUMENT["paths"]), path
    assert all(reason for reason in LEFT_OUT.values())
    assert not set(LEFT_OUT) & set(DOCUMENT["paths"])


def test_references_lead_somewhere_and_every_shape_is_needed() -> None:
    found = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(DOCUMENT)))
    assert found == set(SHAPES)
    jsonschema.Draft202012Validator.check_schema({"$defs": SHAPES})
    assert DOCUMENT["openapi"].startswith("3.1.")
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", name) for name in SHAPES)


def test_every_operation_says_what_it_does_what_a_key_needs_and_how_it_fails() -> None:
    names = [operation["operationId"] for _, _, operation in OPERATIONS]
    assert len(set(names)) == len(names)
    for method, path, operation in OPERATIONS:
        assert len(operation["summary"]) > 5 and operation["security"], (method, path)
        assert {"401", "403"} <= set(operation["responses"]) or path == "/v1/stream", path
        for name in re.findall(r"\{(\w+)\}", path):
            assert any(p["name"] == name and p["in"] == "path" for p in operation["parameters"])
    scopes = {operation["x-sluice-scope"] for _, _, operation in TOKEN_PATH}
    assert scopes - {None} == KEY_SCOPES - _of_the_management_api()
    tags = {tag["name"] for tag in DOCUMENT["tags"]}
    assert {tag for _, _, operation in OPERATIONS for tag in operation["tags"]} == tags


def _of_the_management_api() -> set[str]:
    text = json.dumps([operation for *_, operation in OPERATIONS if operation not in TOKEN_PATH])
    return {scope for scope in KEY_SCOPES if f"permission `{scope}`" in text}


def test_declared_codes_are_in_the_catalogue() -> None:
    known = {(each.status, each.code) for each in CATALOGUE}
    wanted = {
        (int(status), code)
        for _, path, operation in TOKEN_PATH
        if not path.startswith(("/v1/messages", "/v1/models"))
        for status, answer in operation["responses"].items()
        for content in answer.get("content", {}).values()
        for part in content.get("schema", {}).get("allOf", [])[1:]
        for code in part["properties"]["error"]["properties"]["code"]["enum"]
    }
    assert wanted <= known
    # The rest is told by paths that are none, methods that a path lacks, and sockets.
    assert {code for _, code in known - wanted} == {
        "unknown_url", "method_not_allowed", "too_many_requests", "conflict",
    }  # fmt: skip


@pytest.mark.parametrize(("method", "path", "operation"), BODIES, ids=name_of)
def test_every_body_has_an_example_that_is_valid(
    method: str, path: str, operation: dict[str, Any]
) -> None:
    [content] = operation["requestBody"]["content"].values()
    check(content["example"], body_schema(operation))


def test_it_is_served_to_everybody_and_cached() -> None:
    client = Client()
    served = client.get("/v1/openapi.json")
    assert served.status_code == 200 and served.content == document()
    assert served.headers["cache-control"] == "public, max-age=300"
    again = client.get("/v1/openapi.json", headers={"if-none-match": served.headers["etag"]})
    assert again.status_code == 304 and again.content == b""
    packed = client.get("/v1/openapi.json", headers={"accept-encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip" and len(packed.content) < 80_000
    assert client.post("/v1/openapi.json").status_code == 405


def test_its_page_asks_nobody_else() -> None:
    page = Client().get("/docs/api/")
    html = page.content.decode()
    assert "/v1/openapi.json" in html and "redoc.standalone.js" in html
    policy = page.headers["Content-Security-Policy"]
    assert "script-src 'self';" in policy and "http" not in policy
    assert not re.search(r"<script(?![^>]*src=)", html) and "//" not in html.replace("://", "")
    moved = Client().get("/docs/management/")
    assert (moved.status_code, moved.headers["location"]) == (301, "/docs/api/")
