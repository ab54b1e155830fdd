"""The whole OpenAPI document as the tests hold answers against it."""

from __future__ import annotations

import json
import re
from typing import Any

import jsonschema
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from api.document.document import document

DOCUMENT: dict[str, Any] = json.loads(document())
SHAPES: dict[str, Any] = DOCUMENT["components"]["schemas"]
# Read once: a document of this size is not searched for every answer.
_NAME = "urn:document"
_REGISTRY = Registry().with_resource(_NAME, DRAFT202012.create_resource(DOCUMENT)).crawl()
Found = tuple[str, str, dict[str, Any]]


def operations() -> list[Found]:
    """Method, path and operation of each."""
    return [
        (method.upper(), path, operation)
        for path, found in DOCUMENT["paths"].items()
        for method, operation in found.items()
    ]


OPERATIONS = operations()
# Those of the management API have tests of their own (test_management_document).
TOKEN_PATH = [each for each in OPERATIONS if not each[2]["tags"][0].startswith("Management")]


def operation_of(method: str, path: str) -> dict[str, Any]:
    return DOCUMENT["paths"][path][method.lower()]


def check(value: Any, schema: dict[str, Any]) -> None:
    """Raises ValidationError, which names the place."""
    there = json.loads(json.dumps(schema).replace('"#/', f'"{_NAME}#/'))
    jsonschema.Draft202012Validator(there, registry=_REGISTRY).validate(value)


def body_schema(operation: dict[str, Any]) -> dict[str, Any]:
    [content] = operation["requestBody"]["content"].values()
    return content["schema"]


def check_answer(operation: dict[str, Any], response: Any) -> None:
    """An answer as httpx has it: its status is declared, and its body what is said of it."""
    status = str(response.status_code)
    assert status in operation["responses"], (status, response.text[:300])
    contents = operation["responses"][status].get("content", {})
    kind = response.headers.get("content-type", "").partition(";")[0]
    assert kind in contents, (kind, list(contents))
    if kind == "application/json":
        check(response.json(), contents[kind]["schema"])
    elif kind == "text/event-stream":
        events = events_of(response.text)
        assert events
        for event in events:
            check(event, contents[kind]["x-event"])


def events_of(text: str) -> list[Any]:
    data = re.findall(r"^data: (.*)$", text, re.MULTILINE)
    return [json.loads(each) for each in data if each != "[DONE]"]
