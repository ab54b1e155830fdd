"""The OpenAPI document: every address is in it, and live answers are what it says."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import openai
import pytest
from django.test import Client

from api.management.schema import document
from tenants import permissions
from tests.api.test_matrix import (
    ENDPOINTS,
    Endpoint,
    World,
    body_of,
    built,
    ids_of,
    send,
    world,
)

__all__ = ["built", "world"]
DOCUMENT: dict[str, Any] = json.loads(document())


def operation_of(endpoint: Endpoint) -> dict[str, Any]:
    path = "/" + re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", endpoint.route)
    return DOCUMENT["paths"][path][endpoint.method.lower()]


def check(answer: Any, schema: dict[str, Any]) -> None:
    whole = {**schema, "components": DOCUMENT["components"]}
    jsonschema.Draft202012Validator(whole).validate(answer)


def test_every_address_is_in_the_document_and_no_other() -> None:
    told = {
        (method.upper(), path)
        for path, operations in DOCUMENT["paths"].items()
        for method in operations
    }
    served = {
        (endpoint.method, "/" + re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", endpoint.route))
        for endpoint in ENDPOINTS
    }
    assert told == served
    names = [o["operationId"] for ops in DOCUMENT["paths"].values() for o in ops.values()]
    assert len(set(names)) == len(names)


def test_every_reference_leads_somewhere() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    for name in set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(DOCUMENT))):
        assert name in schemas
    jsonschema.Draft202012Validator.check_schema({"$defs": schemas})
    assert DOCUMENT["openapi"].startswith("3.1")


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=str)
def test_live_answers_are_what_the_document_says(world: World, endpoint: Endpoint) -> None:
    from inference.models import Model

    Model.objects.create(name="some/model", kind="chat")
    assert endpoint.operation is not None
    operation = operation_of(endpoint)
    assert endpoint.operation.permission in operation["description"] and operation["summary"]
    body = body_of(endpoint, world.own)
    if body is not None:
        check(body, operation["requestBody"]["content"]["application/json"]["schema"])
    for key in (world.cast.owner_admin_key, None):
        response = send(endpoint, key, ids_of(endpoint, world.own), body)
        answers = operation["responses"][str(response.status_code)]
        check(response.json(), answers["content"]["application/json"]["schema"])


def test_the_document_is_served(db: None) -> None:
    served = Client().get("/v1/organization/openapi.json")
    assert served.status_code == 200 and served.json() == DOCUMENT


def official_surface() -> list[tuple[str, str]]:
    """Method and path of everything that OpenAI's admin client calls, out of its source."""
    calls = {"_get": "GET", "_get_api_list": "GET", "_post": "POST", "_delete": "DELETE"}
    found = set()
    for file in (Path(openai.__file__).parent / "resources" / "admin").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            name = getattr(getattr(node, "func", None), "attr", "")
            if isinstance(node, ast.Call) and name in calls and node.args:
                texts = [n.value for n in ast.walk(node.args[0]) if isinstance(n, ast.Constant)]
                is_post = any(
                    k.arg == "method" and getattr(k.value, "value", "") == "post"
                    for k in node.keywords
                )
                found.add(("POST" if is_post else calls[name], str(texts[0])))
    return sorted(found)


SURFACE = official_surface()
GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "api-management.md").read_text()


def test_the_official_client_has_what_we_know() -> None:
    assert len(SURFACE) > 130


@pytest.mark.parametrize(("method", "path"), SURFACE)
def test_each_call_of_the_official_client_is_served_or_refused_by_name(
    world: World, method: str, path: str
) -> None:
    """And not by the answer of an address that nobody knows."""
    asked = re.sub(r"\{[^}]+\}", "nothing_0000000000000000", path)
    response = Client().generic(
        method,
        f"/v1{asked}",
        b"{}",
        content_type="application/json",
        headers={"Authorization": f"Bearer {world.cast.owner_admin_key}"},
    )
    error = response.json().get("error", {})
    assert response.status_code != 405 and error.get("code") != "unknown_url"
    if error.get("code") == "unsupported_endpoint":
        head = path.removeprefix("/organization").split("/{")[0]
        assert head in GUIDE or path.split("}")[-1].split("/")[1] in GUIDE


def test_the_guide_tells_every_permission_and_its_examples_compile() -> None:
    for permission in permissions.ALL - {"sso.manage"}:
        assert f"`{permission}`" in GUIDE
    examples = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    assert len(examples) >= 3
    for example in examples:
        compile(example, "docs/api-management.md", "exec")
