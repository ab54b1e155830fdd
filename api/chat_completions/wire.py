"""The body of a chat completion and the JSON of its answers, in OpenAI's form."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from api.parameters import MOST_TOP_LOGPROBS, SamplingFields
from inference.wire import Logprob

MOST_MESSAGES = 2_048


class TextPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    text: str
    type: Literal["text"] = "text"


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart] | None = None
    name: str | None = None
    tool_call_id: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    refusal: str | None = None


class ResponseFormat(msgspec.Struct, frozen=True):
    type: str


class ChatRequest(SamplingFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    messages: Annotated[list[Message], Meta(min_length=1, max_length=MOST_MESSAGES)]
    max_completion_tokens: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=MOST_TOP_LOGPROBS)] | None = None
    response_format: ResponseFormat | None = None
    # Known, and refused by name.
    tools: list[Any] | None = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
    functions: list[Any] | None = None
    function_call: Any = None
    audio: Any = None
    modalities: list[str] | None = None
    prediction: Any = None
    reasoning_effort: str | None = None
    verbosity: str | None = None
    web_search_options: Any = None
    moderation: Any = None


decode = msgspec.json.Decoder(ChatRequest).decode
to_json = msgspec.json.encode


def usage_of(prompt: int, cached: int, completion: int) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def logprobs_of(logprobs: list[Logprob] | None, top: int) -> dict[str, Any] | None:
    """OpenAI's ``choices[].logprobs``: content tokens with their alternatives."""
    if logprobs is None:
        return None
    return {
        "content": [
            {
                **_token(token.text, token.logprob),
                "top_logprobs": [_token(text, value) for _, text, value in token.top[:top]],
            }
            for token in logprobs
        ],
        "refusal": None,
    }


def _token(text: str, logprob: float) -> dict[str, Any]:
    # -inf is no JSON number; OpenAI's documented floor is -9999.
    return {
        "token": text,
        "logprob": max(logprob, -9999.0),
        "bytes": list(text.encode()),
    }


class ChunkWriter:
    """Frames of one streamed answer: everything but the delta is encoded once."""

    def __init__(
        self, completion_id: str, created: int, model: str, with_usage: bool, service_tier: str
    ):
        head = to_json(
            {
                "id": completion_id,
                "object": "chat.completion.chunk",
                "created": created,
                "model": model,
                "service_tier": service_tier,
            }
        )
        self._head = head[:-1] + b',"choices":['
        self._tail = b'],"usage":null}' if with_usage else b"]}"

    def role(self, index: int) -> bytes:
        return self._chunk(index, b'{"role":"assistant","content":""}', b"null", b"null")

    def text(self, index: int, text: str, logprobs: dict[str, Any] | None) -> bytes:
        encoded = b"null" if logprobs is None else to_json(logprobs)
        return self._chunk(index, b'{"content":' + to_json(text) + b"}", encoded, b"null")

    def finish(self, index: int, reason: str) -> bytes:
        return self._chunk(index, b"{}", b"null", to_json(reason))

    def usage(self, usage: dict[str, Any]) -> bytes:
        return self._head + b'],"usage":' + to_json(usage) + b"}"

    def _chunk(self, index: int, delta: bytes, logprobs: bytes, reason: bytes) -> bytes:
        return b'%b{"index":%d,"delta":%b,"logprobs":%b,"finish_reason":%b}%b' % (
            self._head, index, delta, logprobs, reason, self._tail
        )  # fmt: skip
