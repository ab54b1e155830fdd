"""What an operation of the document takes: its body, its query, its headers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from api.document.addresses import Address
from api.document.examples import example_of
from api.document.operation import Described
from api.document.schemas import Schemas
from api.files.wire import LEAST_EXPIRY_S, MOST_EXPIRY_S, UploadFields

_HEADERS: dict[str, tuple[str, dict[str, Any]]] = {
    "Idempotency-Key": (
        "The request happens once, however often it is sent with this key.",
        {"type": "string", "pattern": "^[!-~]{1,255}$"},
    ),
    "x-sluice-cache": (
        "`no-cache`, `no-store`, `max-age=<seconds>`, `semantic`, `no-semantic`; by commas.",
        {
            "type": "string",
            "pattern": "^(no-cache|no-store|semantic|no-semantic|max-age=[0-9]{1,9})"
            "(, ?(no-cache|no-store|semantic|no-semantic|max-age=[0-9]{1,9}))*$",
        },
    ),
    "x-sluice-resumable": ("The stream outlives its connection.", {"enum": ["true", "false"]}),
    "x-sluice-allow-fallback": (
        "Whether the model's fallback may answer.",
        {"enum": ["true", "false"]},
    ),
    "x-sluice-debug": ("Say who answered, to whom that is told.", {"enum": ["true", "false"]}),
    "anthropic-version": ("Answer in Anthropic's form.", {"const": "2023-06-01"}),
    "last-event-id": (
        "The id of the event that was heard last.",
        {"type": "string", "pattern": "^[0-9]{1,5}$"},
    ),
    "range": ("One range of bytes.", {"type": "string", "pattern": "^bytes=[0-9]{1,9}-$"}),
}
_OF_RUNS = ("x-sluice-cache", "x-sluice-resumable", "x-sluice-allow-fallback", "x-sluice-debug")


def body(described: Described, schemas: Schemas) -> dict[str, Any]:
    schema = schemas.of(described.body)
    if described.body is UploadFields:  # its file is beside its fields
        file = {"type": "string", "contentMediaType": "application/octet-stream"}
        schema = {
            "type": "object",
            "properties": {
                "purpose": {"const": "batch"},
                "file": file,
                "expires_after[anchor]": {"const": "created_at"},
                "expires_after[seconds]": {
                    "type": "integer",
                    "minimum": LEAST_EXPIRY_S,
                    "maximum": MOST_EXPIRY_S,
                },
            },
            "required": ["purpose", "file"],
        }
    example = described.example or example_of(schema, schemas.components)
    return {"schema": schema, "example": example}


def parameters(
    address: Address, described: Described, schemas: Schemas
) -> Iterator[dict[str, Any]]:
    for name in address.path.split("{")[1:]:
        at = name.partition("}")[0]
        # A model's name may have slashes.
        shape: dict[str, Any] = {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"}
        if at == "model":
            shape = {"type": "string", "minLength": 1, "maxLength": 200}
        yield {"in": "path", "name": at, "required": True, "schema": shape}
    if described.query is not None:
        component = schemas.component_of(described.query)
        for name, shape in component["properties"].items():
            yield {"in": "query", "name": name, "schema": shape, "required": False}
    names = [*described.headers, *(_OF_RUNS if described.is_run else ())]
    if described.is_kept:
        names.insert(0, "Idempotency-Key")
    for name in names:
        told, header = _HEADERS[name]
        yield {"in": "header", "name": name, "description": told, "schema": header}
