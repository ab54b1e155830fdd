"""Messages as answers have them: whole, and as the events of a stream. Pure.

Every event is one JSON object that begins with its ``type``, which a frame's ``event``
repeats (``sse.event_frame``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from api import sse
from api.choices import Choice
from inference.dispatch import Output
from inference.wire import MessagePart, ToolCallPart

to_json = msgspec.json.encode
# Nobody but the model wrote it, and nothing here reads it when it comes back.
SIGNATURE = "unsigned"
_MARK = "\x00"
_TIERS = {"priority": "priority", "batch": "batch"}
PING = b'{"type":"ping"}'
STOP = b'{"type":"message_stop"}'


def usage_of(prompt: int, cached: int, completion: int, reasoning: int = 0) -> dict[str, Any]:
    """``input_tokens`` are those that were not cached, as at Anthropic."""
    return {
        "input_tokens": prompt - cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
        "output_tokens": completion,
        "output_tokens_details": {"thinking_tokens": reasoning},
    }


def tier_of(tier: str) -> str:
    return _TIERS.get(tier, "standard")


def stop_of(
    reason: str, matched: int | str | None, *, has_called: bool, fills_context: bool
) -> tuple[str, str | None]:
    """``stop_reason`` and ``stop_sequence``."""
    if reason == "length":
        return ("model_context_window_exceeded" if fills_context else "max_tokens"), None
    if isinstance(matched, str):
        return "stop_sequence", matched
    return ("tool_use" if has_called else "end_turn"), None


def content_of(choice: Choice) -> list[dict[str, Any]]:
    """A whole answer's blocks."""
    found = choice.message or MessagePart()
    blocks: list[dict[str, Any]] = []
    if found.reasoning:
        blocks.append(_thinking(found.reasoning, SIGNATURE))
    if choice.text:
        blocks.append({"type": "text", "text": choice.text, "citations": None})
    calls: dict[int, ToolCallPart] = {}
    for part in found.tool_calls:
        call = calls.setdefault(part.index, ToolCallPart(part.index))
        call.id, call.name = call.id or part.id, call.name or part.name
        call.arguments += part.arguments
    for _, call in sorted(calls.items()):
        blocks.append(_tool_use(call, _object(call.arguments)))
    return blocks


def _thinking(text: str, signature: str) -> dict[str, Any]:
    return {"type": "thinking", "thinking": text, "signature": signature}


def _tool_use(call: ToolCallPart, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": arguments}


def _object(text: str) -> dict[str, Any]:
    """What the model wrote as arguments; empty if it was cut short or is no object."""
    try:
        value = msgspec.json.decode(text or "{}")
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


class EventWriter:
    """The events of one stream, block by block.

    ``take`` is for ``Run.divert``: text of a block that is open goes out without its stream
    being woken.
    """

    def __init__(self, message: dict[str, Any], write: Callable[[bytes], bool] | None = None):
        self._message = message
        self._write = write
        self._write_text: Callable[[str], bool] | None = None
        self._index = -1
        self._kind = ""  # of the block that is open: text, thinking, tool_use or none
        self._call = -1  # the open block's, of a tool_use
        self.has_called = False
        self.reasoning_tokens = 0

    def begin(self, usage: dict[str, Any]) -> list[bytes]:
        message = {**self._message, "usage": usage}
        return [to_json({"type": "message_start", "message": message}), PING]

    def take(self, text: str) -> bool:
        return self._write_text is not None and self._write_text(text)

    def output(self, output: Output) -> list[bytes]:
        """Of a part of the answer."""
        ready: list[bytes] = []
        message = output.message
        if message is not None and message.reasoning:
            self._switch(ready, "thinking", _thinking("", ""))
            ready.append(self._delta("thinking_delta", "thinking", message.reasoning))
        if output.text:
            self._switch(ready, "text", {"type": "text", "text": "", "citations": None})
            ready.append(self._delta("text_delta", "text", output.text))
        if message is not None:
            self.reasoning_tokens += message.reasoning_tokens
            for part in message.tool_calls:
                self._call_part(ready, part)
        return ready

    def end(self, stop: tuple[str, str | None], usage: dict[str, Any]) -> list[bytes]:
        ready: list[bytes] = []
        self._close(ready)
        delta = {"stop_reason": stop[0], "stop_sequence": stop[1]}
        ready.append(to_json({"type": "message_delta", "delta": delta, "usage": usage}))
        ready.append(STOP)
        return ready

    def _call_part(self, ready: list[bytes], part: ToolCallPart) -> None:
        self.has_called = True
        if self._kind != "tool_use" or self._call != part.index:
            self._close(ready)
            self._call = part.index
            self._open(ready, "tool_use", _tool_use(part, {}))
        if part.arguments:
            ready.append(self._delta("input_json_delta", "partial_json", part.arguments))

    def _switch(self, ready: list[bytes], kind: str, block: dict[str, Any]) -> None:
        if self._kind != kind:
            self._close(ready)
            self._open(ready, kind, block)

    def _open(self, ready: list[bytes], kind: str, block: dict[str, Any]) -> None:
        self._index += 1
        self._kind = kind
        ready.append(
            to_json({"type": "content_block_start", "index": self._index, "content_block": block})
        )
        if kind == "text" and self._write is not None:
            delta = self._delta("text_delta", "text", _MARK)
            self._write_text = sse.text_writer(self._write, delta, to_json(_MARK), sse.event_frame)

    def _close(self, ready: list[bytes]) -> None:
        if not self._kind:
            return
        if self._kind == "thinking":
            ready.append(self._delta("signature_delta", "signature", SIGNATURE))
        ready.append(to_json({"type": "content_block_stop", "index": self._index}))
        self._kind, self._write_text = "", None

    def _delta(self, kind: str, name: str, value: str) -> bytes:
        delta = {"type": kind, name: value}
        return to_json({"type": "content_block_delta", "index": self._index, "delta": delta})
