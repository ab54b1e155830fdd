"""A small value that a schema allows: of bodies for which nobody wrote an example."""

from __future__ import annotations

from typing import Any

_TEXTS = {"string": "text", "integer": 1, "number": 1, "boolean": True, "null": None}


def example_of(shape: dict[str, Any], components: dict[str, Any]) -> Any:
    """Only what is required, each as short as it may be."""
    if "$ref" in shape:
        return example_of(components[shape["$ref"].rpartition("/")[2]], components)
    if "const" in shape:
        return shape["const"]
    if "enum" in shape:
        return shape["enum"][0]
    for several in ("anyOf", "oneOf", "allOf"):
        if several in shape:
            return example_of(shape[several][0], components)
    kind = shape.get("type")
    if kind == "object":
        fields = shape.get("properties", {})
        return {name: example_of(fields[name], components) for name in shape.get("required", ())}
    if kind == "array":
        return [example_of(shape["items"], components)] * shape.get("minItems", 0)
    if kind == "string":
        return _text(shape)
    least = shape.get("minimum", shape.get("exclusiveMinimum", 0) + 1)
    return least if kind in ("integer", "number") else _TEXTS.get(str(kind))


def _text(shape: dict[str, Any]) -> str:
    if shape.get("format") == "date-time":
        return "2026-01-01T00:00:00Z"
    text = "example"
    return text[: shape.get("maxLength")].ljust(shape.get("minLength", 0), "x")
