"""Answers with more than content: reasoning, tool calls, or usage with each chunk.

Apart from the plain answer's code, whose chunks are most of what a gateway writes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from api.chat_completions.tools import call_json
from api.chat_completions.wire import ChunkWriter
from api.choices import Choice, Recorder
from api.run import Run
from inference.dispatch import Output
from inference.wire import Logprob, MessagePart, ToolCallPart

LogprobsJson = Callable[[list[Logprob] | None], dict[str, Any] | None]


@dataclass(slots=True)
class _State:
    """What of one choice was sent."""

    has_begun: bool = False
    has_called: bool = False
    tokens: int = 0


def message_json(choice: Choice) -> dict[str, Any]:
    """A whole answer's ``message``."""
    message: dict[str, Any] = {"role": "assistant", "content": choice.text, "refusal": None}
    found = choice.message
    if found is None:
        return message
    calls = _whole_calls(found.tool_calls)
    if calls or found.reasoning:
        message["content"] = choice.text or None
    if found.reasoning:
        message["reasoning"] = found.reasoning
    if calls:
        message["tool_calls"] = calls
    return message


def _whole_calls(parts: list[ToolCallPart]) -> list[dict[str, Any]]:
    whole: dict[int, ToolCallPart] = {}
    for part in parts:
        call = whole.setdefault(part.index, ToolCallPart(part.index))
        call.id, call.name = call.id or part.id, call.name or part.name
        call.arguments += part.arguments
    return [
        {
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for _, call in sorted(whole.items())
    ]


def finish_reason_of(reason: str, has_called: bool, is_named: bool) -> str:
    """As OpenAI and vLLM: who named the function gets "stop"."""
    return "tool_calls" if reason == "stop" and has_called and not is_named else reason


def has_called(message: MessagePart | None) -> bool:
    return message is not None and bool(message.tool_calls)


def _delta_json(output: Output) -> dict[str, Any]:
    delta: dict[str, Any] = {}
    message = output.message
    if message is not None and message.reasoning:
        delta["reasoning"] = message.reasoning
    if output.text:
        delta["content"] = output.text
    if message is not None and message.tool_calls:
        delta["tool_calls"] = [call_json(part.index, part) for part in message.tool_calls]
    return delta


class RichStream:
    """``usage`` makes the object of prompt, output and reasoning tokens, or is None."""

    def __init__(
        self,
        writer: ChunkWriter,
        n: int,
        *,
        is_named: bool,
        logprobs_json: LogprobsJson,
        usage: Callable[[int, int], dict[str, Any]] | None,
    ):
        self._writer, self._is_named = writer, is_named
        self._logprobs_json, self._usage = logprobs_json, usage
        self._states = [_State() for _ in range(n)]
        self._finished = 0
        self.reasoning_tokens = 0
        self.last: list[bytes] = []  # to be sent when the run is settled

    async def chunks(self, run: Run | Recorder) -> AsyncIterator[list[bytes]]:
        """All but the ``last``."""
        async for part in run.parts():
            ready = self._written(part.index, part.output)
            if self._finished == len(self._states):
                self.last = ready
            elif ready:
                yield ready

    def _written(self, index: int, output: Output) -> list[bytes]:
        state, ready = self._states[index], []
        if not state.has_begun:
            state.has_begun = True
            role = {"role": "assistant", "content": ""}
            ready.append(self._writer.rich(index, role, None, None, self._so_far(state)))
        state.tokens += len(output.token_ids)
        if output.message is not None:
            state.has_called = state.has_called or bool(output.message.tool_calls)
            self.reasoning_tokens += output.message.reasoning_tokens
        usage = self._so_far(state)
        delta, logprobs = _delta_json(output), self._logprobs_json(output.logprobs)
        if delta or logprobs:
            ready.append(self._writer.rich(index, delta, logprobs, None, usage))
        if output.finish_reason:
            reason = finish_reason_of(output.finish_reason, state.has_called, self._is_named)
            ready.append(self._writer.rich(index, {}, None, reason, usage))
            self._finished += 1
        return ready

    def _so_far(self, state: _State) -> dict[str, Any] | None:
        return None if self._usage is None else self._usage(state.tokens, self.reasoning_tokens)
