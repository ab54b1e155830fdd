"""Whether a call or a parameter is served, by the tables that serve and refuse them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from django.urls import Resolver404, resolve

from api.document.addresses import addresses
from api.document.bounds import Fragment
from api.document.conformance.sdk import SdkMethod
from api.document.refused import reason_of as reason_of_field
from api.management.unsupported import _Unsupported
from api.unsupported import reason_of as reason_of_path

SERVED, REFUSED = "served", "refused"
_ID = "x-0"  # an identifier of any kind
# What a method that is served leaves out, beside the parameters that have tables of their own.
LIMITS = {
    "batches.create": "`/v1/chat/completions`, `/v1/completions` and `/v1/embeddings`; one model a "
    "file; within 24 hours",
    "chat.completions.create": "text alone; its parameters are below",
    "chat.completions.parse": "as `create`",
    "chat.completions.stream": "as `create`",
    "completions.create": "its parameters are below",
    "embeddings.create": "its parameters are below",
    "files.create": "`purpose` is `batch`; up to 200 MB",
    "files.list": "`purpose` is `batch`",
    "models.retrieve": "also by an alias",
    "responses.create": "no hosted tools; its parameters are below",
    "responses.input_tokens.count": "as `create`",
    "responses.parse": "as `create`",
    "responses.stream": "as `create`",
}
# Of methods that make no call of their own: the one that they go by.
_SOCKETS = "connect"
_HELPERS = {"wait_for_processing": "retrieve", "upload_file_chunked": "create"}
_NO_SOCKET = (
    "over a WebSocket there is `/v1/stream` alone, whose frames are the platform's; the handshake "
    "is refused."
)


@dataclass(frozen=True)
class Verdict:
    """``note`` are limits of what is served, or the reason of a refusal."""

    word: str
    note: str = ""


def verdict_of(method: SdkMethod, every: dict[str, SdkMethod]) -> Verdict:
    """Raises LookupError for what nothing here knows: it would get a bare 404."""
    if not method.path:
        return _of_helper(method, every)
    limits = LIMITS.get(method.name.removeprefix("beta."), "")
    asked = re.sub(r"\{\w+\}", _ID, method.path)
    for address in addresses():
        pattern = re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(address.path))
        if address.method == method.method and re.fullmatch(pattern, asked):
            if address.refused:
                return Verdict(REFUSED, address.refused.removeprefix("Not served here: "))
            return Verdict(SERVED, limits)
    if reason := reason_of_path(method.method, asked):
        return Verdict(REFUSED, reason)
    return _of_management(method, asked)


def _of_helper(method: SdkMethod, every: dict[str, SdkMethod]) -> Verdict:
    owner, _, name = method.name.rpartition(".")
    if name == _SOCKETS:
        return Verdict(REFUSED, _NO_SOCKET)
    for other in (_HELPERS.get(name, "create"), "retrieve", "list"):
        if (found := every.get(f"{owner}.{other}")) is not None:
            verdict = verdict_of(found, every)
            limits = LIMITS.get(method.name.removeprefix("beta."), "")
            return verdict if verdict.word == REFUSED else Verdict(SERVED, limits)
    return verdict_of(every[_nearest(method.name, every)], every)


def _nearest(name: str, every: dict[str, SdkMethod]) -> str:
    """A method with a call, of the same resource or of one that it belongs to."""
    owner = name
    while owner := owner.rpartition(".")[0]:
        for other, method in every.items():
            if other.startswith(f"{owner}.") and method.path:
                return other
    raise LookupError(f"Nothing is known of {name}.")


def _of_management(method: SdkMethod, asked: str) -> Verdict:
    try:
        view = resolve(asked).func.cls  # type: ignore[attr-defined]
    except (Resolver404, AttributeError):
        raise LookupError(f"{method.method} {method.path} is neither served nor refused.") from None
    if issubclass(view, _Unsupported):
        return Verdict(REFUSED, view.reason)
    if getattr(view, method.method.lower(), None) is None:
        raise LookupError(f"{method.path} has no {method.method}.")
    return Verdict(SERVED)


# --- Parameters -------------------------------------------------------------------------------

_ACCEPTED = "accepted; it changes no answer"
NOTES = {
    "max_tool_calls": "accepted: it counts hosted tools, of which there are none",
    "prompt_cache_key": _ACCEPTED,
    "prompt_cache_retention": _ACCEPTED,
    "safety_identifier": _ACCEPTED,
    "stream_options": "`include_obfuscation` is accepted, chunks are not padded",
    "tools": "functions; hosted and custom tools are refused by name",
    "user": _ACCEPTED,
}
NOTES_HERE = {
    ("/v1/chat/completions", "messages"): "text parts; images, audio, files are refused by name",
    ("/v1/chat/completions", "reasoning_effort"): "where the model reasons; else only `none`",
    ("/v1/responses", "include"): "others are of hosted tools, and refused",
    ("/v1/responses", "input"): "messages of text, function calls, their outputs, reasoning",
    ("/v1/responses", "text"): "`format` as `response_format`; `verbosity` only `medium`",
    ("/v1/responses", "reasoning"): "`effort`; `summary` only `auto`, and there is none",
    ("/v1/responses", "metadata"): "kept with the response",
}


def parameter_verdict(path: str, form: type, name: str, schema: Fragment | None) -> Verdict:
    """``schema`` is the property in the document; None: the form has no such field."""
    if schema is None:
        return Verdict(REFUSED, "not known here: `unknown_parameter`")
    if reason := reason_of_field(form, name):
        return Verdict(REFUSED, reason)
    told = [words_of(schema), NOTES_HERE.get((path, name)) or NOTES.get(name, "")]
    return Verdict(SERVED, "; ".join(filter(None, told)))


def words_of(schema: Fragment) -> str:
    """The bounds of a schema in short; empty where there are none."""
    parts = [_words_of_one(each) for each in schema.get("anyOf", [schema])]
    return ", or ".join(dict.fromkeys(filter(None, parts)))


def _words_of_one(schema: Fragment) -> str:
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"] if value is not None)
    kind = schema.get("type")
    if kind in ("integer", "number"):
        return _range(schema)
    if kind == "string":
        return _counted(schema, "minLength", "maxLength", "characters")
    if kind == "array":
        inner = words_of(schema.get("items", {}))
        counted = _counted(schema, "minItems", "maxItems", "elements")
        return f"{counted} of {inner}" if counted and inner else counted
    if kind == "object":
        return _counted(schema, "minProperties", "maxProperties", "pairs")
    return ""


def _range(schema: Fragment) -> str:
    """Without an end that is only the type's own."""
    least, above, most = (schema.get(name) for name in ("minimum", "exclusiveMinimum", "maximum"))
    if most == 2**63 - 1:
        return "64 bits, signed"
    begin = f"above {_number(above)}" if above is not None else _number(least)
    if most is None or most >= 2**31 - 1:
        return begin and f"from {begin}"
    return f"{begin} to {_number(most)}"


def _number(value: Any) -> str:
    return "" if value is None else f"{value:,g}" if isinstance(value, float) else f"{value:,}"


def _counted(schema: Fragment, least: str, most: str, what: str) -> str:
    if most not in schema:
        return ""
    begin, end = schema.get(least, 0), schema[most]
    if begin == end:
        return f"{end:,} {what}"
    return f"{begin:,} to {end:,} {what}" if begin else f"up to {end:,} {what}"
