"""The body of a text completion and the JSON of its answers, in OpenAI's form."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from api.parameters import MOST_CHOICES, SamplingFields
from inference.wire import Logprob

MOST_PROMPTS = 64
MOST_LOGPROBS = 5
# An engine computes a row of the whole vocabulary for each of these tokens.
MOST_SCORED_PROMPT_TOKENS = 1_024

to_json = msgspec.json.encode


class CompletionRequest(SamplingFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    # A text, token ids, or a list of either; told apart in the handler, so that
    # an error names the element and not the union.
    prompt: str | list[Any]
    # 0 with echo: the prompt, and its logprobs, are all that is wanted.
    max_tokens: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    logprobs: Annotated[int, Meta(ge=0, le=MOST_LOGPROBS)] | None = None
    echo: bool | None = None
    best_of: Annotated[int, Meta(ge=1, le=MOST_CHOICES)] | None = None
    add_special_tokens: bool | None = None
    # Known, and refused by name.
    suffix: str | None = None


decode = msgspec.json.Decoder(CompletionRequest).decode


class LogprobWriter:
    """The legacy form: parallel lists, with each token's offset in the text.

    A token's alternatives are the most likely ones and, if it is none of them, itself.
    """

    def __init__(self) -> None:
        self._offset = 0

    def write(self, logprobs: list[Logprob | str]) -> dict[str, Any]:
        """A text in place of a logprob is the prompt's first token, which has none."""
        tokens = [each if isinstance(each, str) else each.text for each in logprobs]
        offsets = []
        for token in tokens:
            offsets.append(self._offset)
            self._offset += len(token)
        return {
            "tokens": tokens,
            "token_logprobs": [
                None if isinstance(each, str) else max(each.logprob, -9999.0) for each in logprobs
            ],
            "top_logprobs": [
                None
                if isinstance(each, str)
                else {text: max(value, -9999.0) for _, text, value in each.top}
                for each in logprobs
            ],
            "text_offset": offsets,
        }


class ChunkWriter:
    """``text_completion`` objects of one streamed answer."""

    def __init__(
        self, completion_id: str, created: int, model: str, with_usage: bool, fingerprint: str
    ):
        head = to_json(
            {
                "id": completion_id,
                "object": "text_completion",
                "created": created,
                "model": model,
                "system_fingerprint": fingerprint or None,
            }
        )
        self._head = head[:-1] + b',"choices":['
        self._tail = b'],"usage":null}' if with_usage else b"]}"

    def text(
        self,
        index: int,
        text: str,
        logprobs: dict[str, Any] | None,
        reason: str,
        usage: dict[str, Any] | None = None,
    ) -> bytes:
        """``usage`` is what was used so far, if that is wanted with every chunk."""
        return b'%b{"index":%d,"text":%b,"logprobs":%b,"finish_reason":%b}%b' % (
            self._head,
            index,
            to_json(text),
            b"null" if logprobs is None else to_json(logprobs),
            to_json(reason or None),
            self._tail if usage is None else b'],"usage":' + to_json(usage) + b"}",
        )

    def usage(self, usage: dict[str, Any]) -> bytes:
        return self._head + b'],"usage":' + to_json(usage) + b"}"
