"""What an operation of the document gives: its answers, its events, its errors."""

from __future__ import annotations

from typing import Any

from api.document.addresses import Address
from api.document.errors import CATALOGUE, Known
from api.document.operation import OF_KEPT, OF_KEYS, Codes, Described
from api.document.schemas import Schemas
from api.document.shapes.messages import AnthropicError
from api.document.shapes.resources import ServerFrame
from api.management.wire import Error
from api.messages.dialect import kind_of
from api.stream.consumer import CancelFrame, RequestFrame, ResumeFrame

CLIENT_FRAMES = RequestFrame | ResumeFrame | CancelFrame
_HEADERS = {
    "x-request-id": "24 hexadecimal digits; in the answer's `id`.",
    "x-ratelimit-limit-requests": "Of the tightest limit of requests, if there is one.",
    "x-ratelimit-remaining-requests": "What is left of it.",
    "x-sluice-model-version": "The model and version that answered.",
}


def responses(address: Address, described: Described, schemas: Schemas) -> dict[str, Any]:
    if address.path == "/v1/stream":
        done: dict[str, Any] = {
            "101": {
                "description": "The socket is open.",
                "x-client-frames": schemas.of(CLIENT_FRAMES),
                "x-server-frames": schemas.of(ServerFrame),
            }
        }
        return done
    made: dict[str, Any] = {}
    if not address.refused:
        made["200"] = _answer(described, schemas)
        if "range" in described.headers:
            made["206"] = {**made["200"], "description": "The part that was asked for."}
    codes = [*OF_KEYS, *described.errors, *(OF_KEPT if described.is_kept else ())]
    if address.refused:
        codes.append("unsupported_endpoint")
    errors = _errors(_known(tuple(codes)), described.is_anthropic, schemas)
    if described.may_be_anthropic:
        _allow_others(errors, _errors(_known(tuple(codes)), True, schemas))
    return made | errors


def _allow_others(errors: dict[str, Any], others: dict[str, Any]) -> None:
    """The same in other words, at some statuses of their own."""
    for status, other in others.items():
        content = errors.setdefault(status, other)["content"]["application/json"]
        shape = other["content"]["application/json"]["schema"]
        if content["schema"] is not shape:
            content["schema"] = {"anyOf": [content["schema"], shape]}


def _answer(described: Described, schemas: Schemas) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if described.answer_type != "application/json":
        content[described.answer_type] = {}
    elif described.answer is not None:
        content["application/json"] = {"schema": schemas.of(described.answer)}
    if described.events:
        told = "Server-sent events; `x-event` is the JSON of each one's data."
        content["text/event-stream"] = {
            "schema": {"type": "string", "description": told},
            "x-event": schemas.of(described.events),
        }
    made: dict[str, Any] = {"description": "Done.", "content": content}
    names = _HEADERS if described.is_run else ("x-request-id",)
    made["headers"] = {
        name: {"description": _HEADERS[name], "schema": {"type": "string"}} for name in names
    }
    return made


def _known(codes: Codes) -> list[Known]:
    """Of the catalogue; a code that has several statuses is named with the one that is meant."""
    wanted = set(codes)
    return [each for each in CATALOGUE if each.code in wanted or (each.status, each.code) in wanted]


def _errors(known: list[Known], is_anthropic: bool, schemas: Schemas) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for each in sorted(known, key=lambda one: one.status):
        status = _status(each, is_anthropic)
        told = f"`{each.code}`: {each.when}." if each.code else f"{each.when.capitalize()}."
        entry = made.setdefault(str(status), {"told": [], "codes": []})
        entry["told"].append(told)
        entry["codes"].append(each.code)
    return {
        status: {
            "description": " ".join(entry["told"]),
            "content": {
                "application/json": {
                    "schema": _error_shape(int(status), entry["codes"], is_anthropic, schemas)
                }
            },
        }
        for status, entry in sorted(made.items())
    }


def _status(known: Known, is_anthropic: bool) -> int:
    if not is_anthropic:
        return int(known.status)
    if known.code == "insufficient_quota":
        return 402
    return 529 if known.status == 503 else int(known.status)


def _error_shape(
    status: int, codes: list[str | None], is_anthropic: bool, schemas: Schemas
) -> dict[str, Any]:
    name, values = ("type", [kind_of(status)]) if is_anthropic else ("code", codes)
    inner = {"properties": {name: {"enum": values}}}
    shape = schemas.of(AnthropicError if is_anthropic else Error)
    return {"allOf": [shape, {"properties": {"error": inner}}]}
