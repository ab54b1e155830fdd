"""Messages of a chat: their forms on the wire, and as chat templates take them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from api.parameters import refuse
from inference.errors import InvalidRequest

# Of OpenAI's and vLLM's parts: what a text model cannot look at or listen to.
_OTHER_MEDIA = ("image_url", "input_audio", "file", "audio_url", "video_url")
MOST_CALLS = 128


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: str = "text"
    text: str | None = None
    refusal: str | None = None
    # Known, and refused by name.
    image_url: Any = None
    input_audio: Any = None
    file: Any = None
    audio_url: Any = None
    video_url: Any = None
    uuid: str | None = None


class CalledFunction(msgspec.Struct, frozen=True):
    name: str
    arguments: str | dict[str, Any] = "{}"


class Call(msgspec.Struct, frozen=True):
    """A call that an assistant made in an earlier turn."""

    id: str | None = None
    type: str = "function"
    function: CalledFunction | None = None


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[Part] | None = None
    name: str | None = None
    tool_call_id: str | None = None
    tool_calls: Annotated[list[Call], Meta(max_length=MOST_CALLS)] | None = None
    refusal: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None  # vLLM's older name of it
    # In answers that clients send back; nothing for a text model to read.
    annotations: list[Any] | None = None
    audio: dict[str, Any] | None = None
    function_call: dict[str, Any] | None = None


def template_messages(messages: list[Message]) -> list[dict[str, Any]]:
    """As vLLM hands them to a chat template; raises InvalidRequest naming the element."""
    return [_template_message(index, message) for index, message in enumerate(messages)]


def _template_message(index: int, message: Message) -> dict[str, Any]:
    content, role = message.content, message.role
    if type(content) is str and role in {"user", "system"} and message.name is None:
        return {"role": role, "content": content}
    at = f"messages[{index}]"
    refuse(
        **{
            f"{at}.audio": message.audio,
            f"{at}.function_call": message.function_call,
            f"{at}.role": role if role == "function" else None,
        }
    )
    made: dict[str, Any] = {"role": role, "content": _content(at, message)}
    if message.name is not None:
        made["name"] = message.name
    if role == "assistant":
        _add_assistant(at, message, made)
    elif role == "tool":
        if message.tool_call_id is None:
            raise _missing(f"{at}.tool_call_id")
        made["tool_call_id"] = message.tool_call_id
    return made


def _add_assistant(at: str, message: Message, made: dict[str, Any]) -> None:
    if message.tool_calls:
        made["tool_calls"] = [
            _call(f"{at}.tool_calls[{place}]", call)
            for place, call in enumerate(message.tool_calls)
        ]
    reasoning = message.reasoning or message.reasoning_content
    if reasoning is not None:
        made["reasoning"] = made["reasoning_content"] = reasoning


def _content(at: str, message: Message) -> Any:
    content = message.content
    if isinstance(content, str):
        return content
    if content is None:
        if message.role == "assistant" and (message.tool_calls or message.refusal):
            return message.refusal or ""
        raise InvalidRequest("A message needs content.", param=f"{at}.content")
    return [_part(f"{at}.content[{place}]", part) for place, part in enumerate(content)]


def _part(at: str, part: Part) -> dict[str, Any]:
    if part.type in _OTHER_MEDIA or any(getattr(part, name) is not None for name in _OTHER_MEDIA):
        error = InvalidRequest(
            f"This model reads text only: content of type '{part.type[:40]}' is not supported.",
            param=at,
        )
        error.code = "unsupported_parameter"
        raise error
    if part.type not in {"text", "refusal"}:
        raise InvalidRequest("A content part is of type 'text' or 'refusal'.", param=f"{at}.type")
    text = part.text if part.type == "text" else part.refusal
    if text is None:
        raise _missing(f"{at}.{part.type}")
    return {"type": "text", "text": text}


def _call(at: str, call: Call) -> dict[str, Any]:
    if call.type != "function":
        refuse(**{f"{at}.type": call.type})
    if call.function is None:
        raise _missing(f"{at}.function")
    arguments = call.function.arguments
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.function.name, "arguments": arguments},
    }


def _missing(field: str) -> InvalidRequest:
    error = InvalidRequest(f"Missing required parameter: '{field}'.", param=field)
    error.code = "missing_required_parameter"
    return error


def screened_text(messages: list[dict[str, Any]]) -> str:
    """Everything that a client wrote into messages, for screening."""
    return "\n".join(_text_of(message) for message in messages)


def _text_of(message: dict[str, Any]) -> str:
    content = message["content"]
    if isinstance(content, str) and len(message) == 2:
        return content
    parts = [content] if isinstance(content, str) else [part["text"] for part in content]
    parts.append(message.get("reasoning", ""))
    for call in message.get("tool_calls", ()):
        arguments = call["function"]["arguments"]
        parts.append(arguments if isinstance(arguments, str) else str(arguments))
    return "\n".join(part for part in parts if part)
