"""The body of a text completion and the JSON of its answers, in OpenAI's form."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from api.parameters import SamplingFields
from inference.wire import Logprob

MOST_PROMPTS = 64
MOST_LOGPROBS = 5

to_json = msgspec.json.encode


class CompletionRequest(SamplingFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    # A text, token ids, or a list of either; told apart in the handler, so that
    # an error names the element and not the union.
    prompt: str | list[Any]
    logprobs: Annotated[int, Meta(ge=0, le=MOST_LOGPROBS)] | None = None
    # Known, and refused by name.
    echo: bool | None = None
    suffix: str | None = None
    best_of: int | None = None


decode = msgspec.json.Decoder(CompletionRequest).decode


class LogprobWriter:
    """The legacy form: parallel lists, with each token's offset in the text."""

    def __init__(self, top: int):
        self._top = top
        self._offset = 0

    def write(self, logprobs: list[Logprob]) -> dict[str, Any]:
        offsets = []
        for token in logprobs:
            offsets.append(self._offset)
            self._offset += len(token.text)
        return {
            "tokens": [token.text for token in logprobs],
            "token_logprobs": [max(token.logprob, -9999.0) for token in logprobs],
            "top_logprobs": [
                {text: max(value, -9999.0) for _, text, value in token.top[: self._top]}
                for token in logprobs
            ],
            "text_offset": offsets,
        }


class ChunkWriter:
    """``text_completion`` objects of one streamed answer."""

    def __init__(self, completion_id: str, created: int, model: str, with_usage: bool):
        head = to_json(
            {
                "id": completion_id,
                "object": "text_completion",
                "created": created,
                "model": model,
            }
        )
        self._head = head[:-1] + b',"choices":['
        self._tail = b'],"usage":null}' if with_usage else b"]}"

    def text(self, index: int, text: str, logprobs: dict[str, Any] | None, reason: str) -> bytes:
        return b'%b{"index":%d,"text":%b,"logprobs":%b,"finish_reason":%b}%b' % (
            self._head,
            index,
            to_json(text),
            b"null" if logprobs is None else to_json(logprobs),
            to_json(reason or None),
            self._tail,
        )

    def usage(self, usage: dict[str, Any]) -> bytes:
        return self._head + b'],"usage":' + to_json(usage) + b"}"
