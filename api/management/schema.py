"""The OpenAPI document, made of what the views declare with ``@operation``.

drf-spectacular walks the addresses; the shapes are msgspec's, because the same types
parse the bodies and encode the answers, and so cannot differ from the document.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import msgspec
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiParameter

from api.document.names import REF, readable, renamed
from api.management.operation import Operation, methods_of
from api.management.wire import Error

_STATUSES = {
    "400": "The request makes no sense; `param` names the field.",
    "401": "No key, or a malformed, unknown, revoked or expired one.",
    "403": "The key may not do this, or not from here, or its organization is suspended.",
    "404": "No such object in this organization.",
    "409": "The state of the object, or a request that is still running, is in the way.",
    "413": "The body is too large.",
    "415": "The body is not JSON.",
    "422": "The Idempotency-Key was used with another request.",
    "429": "Too many calls a minute; `retry-after` says when to try again.",
}


@lru_cache(maxsize=1)
def _shapes() -> tuple[dict[Any, dict[str, Any]], dict[str, Any]]:
    """Of every type that a method declares, and the components. All at once: that two classes
    have one name shows only where both are looked at."""
    from api import urls

    kinds: set[Any] = {Error}
    for _route, view in views_of(urls.urlpatterns):
        for _method, declared in methods_of(view):
            if declared is not None:
                kinds |= {kind for kind in (declared.answer, declared.body, declared.query) if kind}
    ordered = sorted(kinds, key=str)
    shapes, components = msgspec.json.schema_components(ordered, ref_template=REF)
    found = dict(zip(ordered, map(renamed, shapes), strict=True))
    return found, {readable(name): renamed(shape) for name, shape in components.items()}


def shape_of(kind: Any) -> dict[str, Any]:
    """The JSON schema of a type that a method declares, by reference where it has a name."""
    return dict(_shapes()[0][kind])


class ManagementSchema(AutoSchema):
    """Reads the view's ``Operation`` in place of serializers."""

    @property
    def operation(self) -> Operation | None:
        handler = getattr(self.view, self.method.lower(), None)
        return getattr(handler, "operation", None)

    def is_excluded(self) -> bool:
        return self.operation is None

    def get_operation_id(self) -> str:
        return f"{self.method.lower()}_{type(self.view).__name__}"

    def get_tags(self) -> list[str]:
        return [type(self.view).__module__.split(".")[2].replace("_", " ")]

    def get_summary(self) -> str:
        return self.operation.summary if self.operation else ""

    def get_description(self) -> str:
        assert self.operation is not None
        return f"Needs the permission `{self.operation.permission}`."

    def get_auth(self) -> list[dict[str, list[str]]]:
        return [{"adminKey": []}]

    def get_request_serializer(self) -> Any:
        if self.operation is None or self.operation.body is None:
            return None
        return {"application/json": shape_of(self.operation.body)}

    def get_response_serializers(self) -> Any:
        assert self.operation is not None
        error = shape_of(Error)
        answers: dict[Any, Any] = dict.fromkeys(_STATUSES, error)
        if not self.operation.unsupported:
            answers["200"] = shape_of(self.operation.answer)
        return answers

    def get_override_parameters(self) -> list[Any]:
        assert self.operation is not None
        parameters = list(_query_parameters(self.operation))
        if self.method != "GET":
            parameters.append(
                OpenApiParameter(
                    "Idempotency-Key",
                    {"type": "string", "minLength": 1, "maxLength": 255},
                    OpenApiParameter.HEADER,
                    description="The request happens once, however often it is sent with this key.",
                )
            )
        return parameters

    def _resolve_path_parameters(self, variables: list[str]) -> list[dict[str, Any]]:
        return [
            {"in": "path", "name": name, "schema": {"type": "string"}, "required": True}
            for name in variables
        ]


def _query_parameters(declared: Operation) -> Iterator[OpenApiParameter]:
    if declared.query is None:
        return
    schema = _shapes()[1][shape_of(declared.query)["$ref"].rpartition("/")[2]]
    for name, shape in schema["properties"].items():
        is_list = "array" in str(shape)
        yield OpenApiParameter(
            f"{name}[]" if is_list else name,
            shape,
            OpenApiParameter.QUERY,
            required=name in schema.get("required", ()),
            style="deepObject" if "$ref" in str(shape) else None,
            explode=True if is_list or "$ref" in str(shape) else None,
        )


def views_of(patterns: list[Any]) -> Iterator[tuple[str, type]]:
    """Route and class of each view of the management API."""
    for pattern in patterns:
        if hasattr(pattern, "url_patterns"):
            yield from views_of(pattern.url_patterns)
        elif hasattr(pattern.callback, "cls"):
            yield str(pattern.pattern), pattern.callback.cls


def add_components(result: dict[str, Any], generator: Any, **others: Any) -> dict[str, Any]:
    """The shapes that operations refer to, and how a caller authenticates."""
    result["components"] = {
        "schemas": _shapes()[1],
        "securitySchemes": {"adminKey": {"type": "http", "scheme": "bearer"}},
    }
    for operations in result["paths"].values():
        for operation in operations.values():
            for status, answer in operation["responses"].items():
                answer["description"] = _STATUSES.get(status, "Done.")
    return result


@lru_cache(maxsize=1)
def document() -> bytes:
    """The whole document. The addresses do not change while the process lives."""
    from api import urls

    generator = SchemaGenerator(patterns=urls.urlpatterns)  # type: ignore[no-untyped-call]
    made = generator.get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    return msgspec.json.encode(made)
