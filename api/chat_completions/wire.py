"""The body of a chat completion and the JSON of its answers, in OpenAI's form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from api import sse
from api.chat_completions.messages import Message
from api.chat_completions.tools import Tools
from api.parameters import MOST_TOP_LOGPROBS, SamplingFields
from inference.wire import Logprob

MOST_MESSAGES = 2_048
MOST_DOCUMENTS = 128
# OpenAI's, and "max", which some models of vLLM know.
ReasoningEffort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


class ChatRequest(SamplingFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    messages: Annotated[list[Message], Meta(min_length=1, max_length=MOST_MESSAGES)]
    max_completion_tokens: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=MOST_TOP_LOGPROBS)] | None = None
    tools: Tools | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: ReasoningEffort | None = None
    # vLLM's.
    include_reasoning: bool | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    add_special_tokens: bool | None = None
    documents: Annotated[list[dict[str, Any]], Meta(max_length=MOST_DOCUMENTS)] | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    # Known, and refused by name.
    functions: list[Any] | None = None
    function_call: Any = None
    audio: Any = None
    modalities: list[str] | None = None
    prediction: Any = None
    verbosity: str | None = None
    web_search_options: Any = None
    moderation: Any = None
    prompt_cache_options: Any = None
    chat_template: Any = None


decode = msgspec.json.Decoder(ChatRequest).decode
to_json = msgspec.json.encode
_MARK = "\x00"  # as no name of a model or an id is


def usage_of(prompt: int, cached: int, completion: int, reasoning: int = 0) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
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
        self,
        completion_id: str,
        created: int,
        model: str,
        with_usage: bool,
        service_tier: str,
        fingerprint: str,
    ):
        head = to_json(
            {
                "id": completion_id,
                "object": "chat.completion.chunk",
                "created": created,
                "model": model,
                "service_tier": service_tier,
                "system_fingerprint": fingerprint or None,
            }
        )
        self._head = head[:-1] + b',"choices":['
        self._tail = b'],"usage":null}' if with_usage else b"]}"

    def role(self, index: int) -> bytes:
        return self._chunk(index, b'{"role":"assistant","content":""}', b"null", b"null")

    def text(self, index: int, text: str, logprobs: dict[str, Any] | None) -> bytes:
        encoded = b"null" if logprobs is None else to_json(logprobs)
        return self._chunk(index, b'{"content":' + to_json(text) + b"}", encoded, b"null")

    def texts(self, index: int, write: Callable[[bytes], bool]) -> Callable[[str], bool]:
        """Writes texts of one choice as frames of ``text``, with as little as can be done."""
        return sse.text_writer(write, self.text(index, _MARK, None), to_json(_MARK))

    def finish(self, index: int, reason: str) -> bytes:
        return self._chunk(index, b"{}", b"null", to_json(reason))

    def rich(
        self,
        index: int,
        delta: dict[str, Any],
        logprobs: dict[str, Any] | None,
        reason: str | None,
        usage: dict[str, Any] | None,
    ) -> bytes:
        """A chunk of any form; ``usage`` is what was used so far, if that is wanted."""
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        tail = self._tail if usage is None else b'],"usage":' + to_json(usage) + b"}"
        return self._head + to_json(choice) + tail

    def usage(self, usage: dict[str, Any]) -> bytes:
        return self._head + b'],"usage":' + to_json(usage) + b"}"

    def _chunk(self, index: int, delta: bytes, logprobs: bytes, reason: bytes) -> bytes:
        return b'%b{"index":%d,"delta":%b,"logprobs":%b,"finish_reason":%b}%b' % (
            self._head, index, delta, logprobs, reason, self._tail
        )  # fmt: skip
