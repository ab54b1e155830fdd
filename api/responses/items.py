"""Items of a response's input: checked, put into the form that is stored, and as a chat's
messages."""

from __future__ import annotations

import secrets
from typing import Any, Literal, TypeVar

import msgspec

from api.errors import malformed
from api.parameters import refuse
from inference.errors import InvalidRequest

I = TypeVar("I", bound=msgspec.Struct)  # noqa: E741 - an item's type
Item = dict[str, Any]
_OTHER_MEDIA = ("input_image", "input_file", "input_audio")
Status = Literal["in_progress", "completed", "incomplete"]


class Part(msgspec.Struct, frozen=True):
    """Also of other media, which are refused by name."""

    type: str
    text: str | None = None
    refusal: str | None = None


class MessageItem(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[Part]
    type: str = "message"
    id: str | None = None
    status: Status | None = None
    phase: str | None = None


class CallItem(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    type: str
    call_id: str
    name: str
    arguments: str
    id: str | None = None
    status: Status | None = None


class CallOutputItem(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    type: str
    call_id: str
    output: str | list[Part]
    id: str | None = None
    status: Status | None = None


class ReasoningText(msgspec.Struct, frozen=True):
    type: str
    text: str


class ReasoningItem(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    type: str
    summary: list[ReasoningText] = []
    content: list[ReasoningText] | None = None
    id: str | None = None
    status: Status | None = None
    encrypted_content: str | None = None  # nobody here made it, so nobody can read it


def new_id(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(24)}"


def stored_items(given: str | list[Item]) -> list[Item]:
    """As ``input_items`` lists them; raises InvalidRequest naming the element."""
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    return [_stored(f"input[{index}]", item) for index, item in enumerate(given)]


def _stored(at: str, item: Item) -> Item:
    kind = item.get("type", "message")
    make = _KINDS.get(kind) if isinstance(kind, str) else None
    if make is None:
        refuse(**{f"{at}.type": str(kind)[:60]})
        raise InvalidRequest("An item's type is a string.", param=f"{at}.type")
    return make(at, item)


def _message(at: str, item: Item) -> Item:
    found = _converted(at, item, MessageItem)
    kind = "output_text" if found.role == "assistant" else "input_text"
    return {
        "type": "message",
        "id": found.id or new_id("msg"),
        "role": found.role,
        "status": found.status or "completed",
        "content": _parts(f"{at}.content", found.content, kind),
    }


def _parts(at: str, content: str | list[Part], kind: str) -> list[Item]:
    if isinstance(content, str):
        return [_text(kind, content)]
    return [_part(f"{at}[{index}]", part, kind) for index, part in enumerate(content)]


def _part(at: str, part: Part, kind: str) -> Item:
    if part.type in _OTHER_MEDIA:
        error = InvalidRequest(
            f"This model reads text only: content of type '{part.type}' is not supported.",
            param=at,
        )
        error.code = "unsupported_parameter"
        raise error
    if part.type == "refusal" and part.refusal is not None:
        return _text(kind, part.refusal)
    if part.type not in ("input_text", "output_text", "text"):
        raise InvalidRequest(
            "A content part is of type 'input_text', 'output_text' or 'refusal'.",
            param=f"{at}.type",
        )
    if part.text is None:
        raise InvalidRequest(f"Missing required parameter: '{at}.text'.", param=f"{at}.text")
    return _text(kind, part.text)


def _text(kind: str, text: str) -> Item:
    made: Item = {"type": kind, "text": text}
    return made if kind == "input_text" else made | {"annotations": [], "logprobs": []}


def _call(at: str, item: Item) -> Item:
    found = _converted(at, item, CallItem)
    return {
        "type": "function_call",
        "id": found.id or new_id("fc"),
        "call_id": found.call_id,
        "name": found.name,
        "arguments": found.arguments,
        "status": found.status or "completed",
    }


def _call_output(at: str, item: Item) -> Item:
    found = _converted(at, item, CallOutputItem)
    output = found.output
    if not isinstance(output, str):
        output = _text_of(_parts(f"{at}.output", output, "input_text"))
    return {
        "type": "function_call_output",
        "id": found.id or new_id("fco"),
        "call_id": found.call_id,
        "output": output,
        "status": found.status or "completed",
    }


def _reasoning(at: str, item: Item) -> Item:
    found = _converted(at, item, ReasoningItem)
    return {
        "type": "reasoning",
        "id": found.id or new_id("rs"),
        "summary": [{"type": "summary_text", "text": part.text} for part in found.summary],
        "content": [{"type": "reasoning_text", "text": part.text} for part in found.content or ()],
        "status": found.status or "completed",
    }


_KINDS = {
    "message": _message,
    "function_call": _call,
    "function_call_output": _call_output,
    "reasoning": _reasoning,
}


def _converted(at: str, item: Item, form: type[I]) -> I:
    try:
        return msgspec.convert(item, form)
    except msgspec.ValidationError as error:
        text = str(error)
        if " - at `$" in text:
            text = text.replace(" - at `$", f" - at `$.{at}")
        else:
            text += f" - at `$.{at}`"
        raise malformed(msgspec.ValidationError(text)) from None


# --- As messages of a chat --------------------------------------------------------------------


def chat_messages(items: list[Item]) -> list[dict[str, Any]]:
    """An assistant's reasoning, text and calls that follow one another are one message."""
    messages: list[dict[str, Any]] = []
    for item in items:
        kind = item["type"]
        if kind == "function_call_output":
            tool = {"role": "tool", "tool_call_id": item["call_id"], "content": item["output"]}
            messages.append(tool)
        elif kind == "message" and item["role"] != "assistant":
            messages.append({"role": item["role"], "content": _text_of(item["content"])})
        else:
            _add(_assistant(messages, kind), item)
    return messages


def _assistant(messages: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    """The assistant's message that an item of this kind belongs to."""
    last = messages[-1] if messages else None
    if last is not None and last["role"] == "assistant":
        has_said = bool(last["content"]) or "tool_calls" in last
        if kind == "function_call" or not has_said:
            return last
    made = {"role": "assistant", "content": ""}
    messages.append(made)
    return made


def _add(message: dict[str, Any], item: Item) -> None:
    if item["type"] == "reasoning":
        text = _text_of(item["content"]) or _text_of(item["summary"])
        if text:
            message["reasoning"] = message.get("reasoning", "") + text
    elif item["type"] == "message":
        message["content"] = _text_of(item["content"])
    else:
        function = {"name": item["name"], "arguments": item["arguments"]}
        call = {"id": item["call_id"], "type": "function", "function": function}
        message.setdefault("tool_calls", []).append(call)


def _text_of(parts: list[Item]) -> str:
    return "\n".join(part["text"] for part in parts)
