"""What an answer must look like: OpenAI's ``response_format`` and vLLM's ``structured_outputs``.

Here a constraint is bounded by numbers (``docs/api.md`` lists them) before any engine
hears of it; whether it can be compiled is found out beside the engine.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from inference.errors import InvalidRequest

# OpenAI's own bounds of a schema, but for the depth: theirs counts objects, ours JSON.
MOST_SCHEMA_BYTES = 128 * 1024
MOST_SCHEMA_DEPTH = 32
MOST_PROPERTIES = 5_000
MOST_ENUM_VALUES = 1_000
MOST_REGEX_CHARACTERS = 2_048
# With every repetition written out: (a{1,100}){1,100} has 10,000.
MOST_REGEX_SIZE = 10_000
MOST_REGEX_DEPTH = 32
MOST_CHOICES = 1_000
MOST_CHOICE_CHARACTERS = 1_024
MOST_GRAMMAR_CHARACTERS = 32 * 1024

NAME = r"^[a-zA-Z0-9_-]{1,64}$"


class JsonSchemaFormat(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: Annotated[str, Meta(pattern=NAME)]
    schema: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None  # it always is: the output follows the schema


class ResponseFormat(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: str
    json_schema: JsonSchemaFormat | None = None
    format: dict[str, Any] | None = None  # of vLLM's "structural_tag"


class StructuredOutputs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """vLLM's own form; exactly one of these."""

    json: dict[str, Any] | str | None = None
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None
    json_object: bool | None = None
    structural_tag: str | None = None


class StructuredFields(msgspec.Struct, frozen=True, kw_only=True):
    """As requests carry them; ``guided_*`` are vLLM's older names."""

    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    guided_json: dict[str, Any] | str | None = None
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None


def structured_of(body: StructuredFields) -> tuple[dict[str, Any] | None, str]:
    """The constraint as ``wire.Sampling.structured`` has it, and the field that asks for it.

    Raises InvalidRequest naming the field for what is out of bounds, and for two at once.
    """
    asked = list(_asked(body))
    if not asked:
        return None, ""
    if len(asked) > 1:
        raise InvalidRequest("An answer can have one constraint only.", param=asked[1][2])
    kind, value, field = asked[0]
    return {kind: _CHECKS[kind](value, field)}, field


def has_constraint(body: StructuredFields) -> bool:
    """Whether ``structured_of`` needs to look."""
    return (
        body.response_format is not None
        or body.structured_outputs is not None
        or body.guided_json is not None
        or body.guided_regex is not None
        or body.guided_choice is not None
        or body.guided_grammar is not None
    )


def _asked(body: StructuredFields) -> Any:
    """Kind, value and field of each constraint."""
    if body.response_format is not None and body.response_format.type != "text":
        yield _of_format(body.response_format)
    if body.structured_outputs is not None:
        found = [
            (kind, value, f"structured_outputs.{kind}")
            for kind in StructuredOutputs.__struct_fields__
            if (value := getattr(body.structured_outputs, kind)) is not None
        ]
        if not found:
            raise InvalidRequest("It constrains nothing.", param="structured_outputs")
        yield from found
    for kind in ("json", "regex", "choice", "grammar"):
        if (value := getattr(body, f"guided_{kind}")) is not None:
            yield kind, value, f"guided_{kind}"


def _of_format(wanted: ResponseFormat) -> tuple[str, Any, str]:
    if wanted.type == "json_object":
        return "json_object", True, "response_format"
    if wanted.type == "json_schema":
        if wanted.json_schema is None:
            raise _missing("response_format.json_schema")
        if wanted.json_schema.schema is None:
            raise _missing("response_format.json_schema.schema")
        return "json", wanted.json_schema.schema, "response_format.json_schema.schema"
    if wanted.type == "structural_tag":
        if wanted.format is None:
            raise _missing("response_format.format")
        tag = {"type": "structural_tag", "format": wanted.format}
        return "structural_tag", msgspec.json.encode(tag).decode(), "response_format.format"
    error = InvalidRequest(
        f"The response format '{wanted.type[:40]}' is not supported by this server.",
        param="response_format.type",
    )
    error.code = "unsupported_parameter"
    raise error


def _missing(field: str) -> InvalidRequest:
    error = InvalidRequest(f"Missing required parameter: '{field}'.", param=field)
    error.code = "missing_required_parameter"
    return error


def check_schema(schema: Any, field: str) -> Any:
    """A JSON schema within the bounds; returned as it came."""
    if isinstance(schema, str):
        schema = _decoded(schema, field)
    if not isinstance(schema, dict):
        raise InvalidRequest("A schema is a JSON object.", param=field)
    try:
        size = len(msgspec.json.encode(schema))
    except RecursionError as error:
        raise InvalidRequest(
            f"A schema has at most {MOST_SCHEMA_DEPTH} levels.", param=field
        ) from error
    if size > MOST_SCHEMA_BYTES:
        raise InvalidRequest(f"A schema has at most {MOST_SCHEMA_BYTES} bytes.", param=field)
    properties = enums = 0
    nodes: list[tuple[Any, int]] = [(schema, 1)]
    while nodes:
        node, depth = nodes.pop()
        if depth > MOST_SCHEMA_DEPTH:
            raise InvalidRequest(f"A schema has at most {MOST_SCHEMA_DEPTH} levels.", param=field)
        if isinstance(node, dict):
            properties += _size(node.get("properties"))
            enums += _size(node.get("enum"))
            for pattern in _patterns(node):
                check_regex(pattern, field)
            _check_reference(node.get("$ref"), field)
            nodes += [(child, depth + 1) for child in node.values()]
        elif isinstance(node, list):
            nodes += [(child, depth + 1) for child in node]
        elif isinstance(node, int) and not -(2**63) <= node < 2**64:
            raise InvalidRequest("An integer in a schema has at most 64 bits.", param=field)
    if properties > MOST_PROPERTIES:
        raise InvalidRequest(f"A schema has at most {MOST_PROPERTIES} properties.", param=field)
    if enums > MOST_ENUM_VALUES:
        raise InvalidRequest(f"A schema has at most {MOST_ENUM_VALUES} enum values.", param=field)
    return schema


def _check_reference(reference: Any, field: str) -> None:
    """Nothing is fetched for a schema, and a reference that leads elsewhere would hold to nothing."""
    if isinstance(reference, str) and not reference.startswith("#"):
        raise InvalidRequest(
            f"A $ref leads to a place in the same schema (#/…), not to {reference[:60]!r}.",
            param=field,
        )


def _decoded(text: str, field: str) -> Any:
    if len(text) > MOST_SCHEMA_BYTES:
        raise InvalidRequest(f"A schema has at most {MOST_SCHEMA_BYTES} bytes.", param=field)
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise InvalidRequest("The schema is no JSON.", param=field) from error


def _size(value: Any) -> int:
    return len(value) if isinstance(value, dict | list) else 0


def _patterns(node: dict[str, Any]) -> list[str]:
    """A schema's own; a property may be called ``pattern`` and hold a schema."""
    found = list(node["patternProperties"]) if _size(node.get("patternProperties")) else []
    if isinstance(node.get("pattern"), str):
        found.append(node["pattern"])
    return [pattern for pattern in found if isinstance(pattern, str)]


# A regex's parts, as far as its size depends on them: escapes and classes whole.
_PARTS = re.compile(
    r"(?P<escape>\\.)|(?P<set>\[\^?\]?(?:\\.|[^\]\\])*\])|(?P<open>\((?:\?(?:P?<\w+>|[:=!]|<[=!]))?)"
    r"|(?P<close>\))|\{(?P<least>\d+)(?P<comma>,)?(?P<most>\d*)\}|(?P<sign>[*+?|^$])|(?P<other>.)",
    re.DOTALL,
)
_LOOKS = ("(?=", "(?!", "(?<=", "(?<!")


def check_regex(pattern: str, field: str) -> str:
    """A regular expression within the bounds; returned as it came."""
    if not 0 < len(pattern) <= MOST_REGEX_CHARACTERS:
        raise InvalidRequest(
            f"A regular expression has 1 to {MOST_REGEX_CHARACTERS} characters.", param=field
        )
    outer: list[int] = []  # sizes of what stands before each open group
    size = last = 0
    for part in _PARTS.finditer(pattern):
        text = part[0]
        if part["open"]:
            if text in _LOOKS:
                raise InvalidRequest("Look-arounds cannot be enforced.", param=field)
            outer.append(size)
            size = last = 0
        elif part["close"]:
            last = size
            size += outer.pop() if outer else 0
        elif part["least"]:
            times = int((part["most"] or part["least"])[:9])
            size += last * max(0, times - 1)
            last *= times
        elif not part["sign"]:
            if part["escape"] and text[1] in "123456789k":
                raise InvalidRequest("Back-references cannot be enforced.", param=field)
            size, last = size + 1, 1
        if size > MOST_REGEX_SIZE or len(outer) > MOST_REGEX_DEPTH:
            raise InvalidRequest(
                f"A regular expression has at most {MOST_REGEX_SIZE} characters with its "
                f"repetitions written out, and {MOST_REGEX_DEPTH} levels of groups.",
                param=field,
            )
    return pattern


def _check_choice(choices: list[str], field: str) -> list[str]:
    if not 0 < len(choices) <= MOST_CHOICES:
        raise InvalidRequest(f"There are 1 to {MOST_CHOICES} choices.", param=field)
    for index, choice in enumerate(choices):
        if not 0 < len(choice) <= MOST_CHOICE_CHARACTERS:
            raise InvalidRequest(
                f"A choice has 1 to {MOST_CHOICE_CHARACTERS} characters.",
                param=f"{field}[{index}]",
            )
    return choices


def _check_grammar(grammar: str, field: str) -> str:
    if not grammar.strip() or len(grammar) > MOST_GRAMMAR_CHARACTERS:
        raise InvalidRequest(
            f"A grammar has 1 to {MOST_GRAMMAR_CHARACTERS} characters.", param=field
        )
    return grammar


def _check_object(wanted: bool, field: str) -> bool:
    if not wanted:
        raise InvalidRequest("It can only be true.", param=field)
    return True


def _check_tag(tag: str, field: str) -> str:
    decoded = check_schema(tag, field)
    if "format" not in decoded:
        raise InvalidRequest("A structural tag has a 'format'.", param=field)
    return tag


_CHECKS: dict[str, Any] = {
    "json": check_schema,
    "regex": check_regex,
    "choice": _check_choice,
    "grammar": _check_grammar,
    "json_object": _check_object,
    "structural_tag": _check_tag,
}
