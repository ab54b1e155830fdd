"""The document: addresses out of the tables that route, shapes out of the types that parse.

The management API's part is drf-spectacular's (``api.management.schema``); both are put together
here. Nothing is written by hand but summaries, examples and which errors there are.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from typing import Any

import msgspec

from api.document import answered, asked
from api.document.addresses import Address, addresses
from api.document.examples import example_of
from api.document.names import REF
from api.document.operation import Described
from api.document.operations import DESCRIBED
from api.document.schemas import Schemas
from api.document.shapes.messages import AnthropicError
from api.document.shapes.resources import ServerFrame
from api.management import schema as management
from api.management.wire import Error

_ABOUT = (
    "OpenAI's inference and management surface and Anthropic's messages, on models of your own. "
    "What a client should know beside it is in the API guide, `docs/api.md`."
)
# How the page groups operations; those of the management API follow by their own names.
_TAGS = (
    "Chat completions", "Completions", "Responses", "Messages", "Embeddings", "Rerank and score",
    "Tokens", "Models", "Files", "Batches", "Kept answers", "Streams",
)  # fmt: skip


@lru_cache(maxsize=1)
def document() -> bytes:
    """The whole document as JSON. Addresses do not change while the process lives."""
    return msgspec.json.encode(build())


@lru_cache(maxsize=1)
def etag() -> str:
    return f'"{hashlib.sha256(document()).hexdigest()[:32]}"'


def build() -> dict[str, Any]:
    schemas = Schemas(_kinds())
    paths: dict[str, dict[str, Any]] = {}
    for address in addresses():
        described = DESCRIBED.get((address.method, address.path)) or _undescribed(address)
        operation = _operation(address, described, schemas)
        paths.setdefault(address.path, {})[address.method.lower()] = operation
    managed = _managed(schemas)
    tags = [*_TAGS, *sorted(_tags(paths, managed["paths"]) - set(_TAGS))]
    shapes = schemas.components | managed["components"]["schemas"]
    paths |= managed["paths"]
    return {
        "openapi": "3.1.0",
        "info": {"title": "Sluice", "version": managed["info"]["version"], "description": _ABOUT},
        "servers": [{"url": "/"}],
        "tags": [{"name": name} for name in tags],
        "paths": paths,
        "components": {
            "schemas": _referred_to(paths, shapes),
            "securitySchemes": {
                "apiKey": {"type": "http", "scheme": "bearer"},
                "anthropicKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
                **managed["components"]["securitySchemes"],
            },
        },
    }


def _kinds() -> list[Any]:
    kinds: list[Any] = [Error, AnthropicError, answered.CLIENT_FRAMES, ServerFrame]
    for each in DESCRIBED.values():
        answers = each.answer if isinstance(each.answer, tuple) else (each.answer,)
        kinds += [kind for kind in (*answers, each.body, each.query, *each.events) if kind]
    return kinds


def _undescribed(address: Address) -> Described:
    """What an address says of itself; a test asks for more."""
    tag = address.path.removeprefix("/v1/").split("/")[0].replace("_", " ").capitalize()
    return Described(tag, address.refused or f"{address.method} {address.path}")


def _operation(address: Address, described: Described, schemas: Schemas) -> dict[str, Any]:
    made: dict[str, Any] = {
        "operationId": _name(address),
        "tags": [described.tag],
        "summary": described.summary,
        "description": _description(address, described),
        "security": [{"apiKey": []}],
        "parameters": [*asked.parameters(address, described, schemas)],
        "responses": answered.responses(address, described, schemas),
        "x-sluice-scope": address.scope,
    }
    if described.is_anthropic:
        made["security"].append({"anthropicKey": []})
    if described.body is not None:
        content = {described.media_type: asked.body(described, schemas)}
        made["requestBody"] = {"required": True, "content": content}
    return made


def _name(address: Address) -> str:
    return address.method.lower() + re.sub(r"[{}]", "", address.path).replace("/", "_")


def _description(address: Address, described: Described) -> str:
    told = [described.note] if described.note else []
    if address.scope:
        told.append(f"A key that has scopes needs `{address.scope}`.")
    return " ".join(told)


# --- The management API -----------------------------------------------------------------------


def _managed(ours: Schemas) -> dict[str, Any]:
    """Its document, where two shapes have one name with its own called differently, and with
    an example for each body."""
    made: dict[str, Any] = msgspec.json.decode(management.document())
    shapes = made["components"]["schemas"]
    taken = {name for name, shape in shapes.items() if ours.components.get(name, shape) != shape}
    text = msgspec.json.encode(made).decode()
    for name in taken:
        text = text.replace(f'"{REF.format(name=name)}"', f'"{REF.format(name=f"Admin{name}")}"')
    made = msgspec.json.decode(text)
    shapes = made["components"]["schemas"]
    for name in taken:
        shapes[f"Admin{name}"] = shapes.pop(name)
    for operations in made["paths"].values():
        for operation in operations.values():
            operation["tags"] = [f"Management: {tag}" for tag in operation["tags"]]
            for content in operation.get("requestBody", {}).get("content", {}).values():
                content["example"] = example_of(content["schema"], shapes)
    return made


def _referred_to(paths: dict[str, Any], shapes: dict[str, Any]) -> dict[str, Any]:
    """The shapes that an operation needs, and those that these need."""
    found: dict[str, Any] = {}
    waiting = _references(paths)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = shapes[name]
            waiting |= _references(shapes[name])
    return dict(sorted(found.items()))


def _references(part: Any) -> set[str]:
    pattern = REF.format(name='([^"]+)')
    return set(re.findall(pattern, msgspec.json.encode(part).decode()))


def _tags(*groups: dict[str, Any]) -> set[str]:
    return {
        tag
        for paths in groups
        for operations in paths.values()
        for operation in operations.values()
        for tag in operation["tags"]
    }
