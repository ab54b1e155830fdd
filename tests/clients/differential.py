"""Requests whose answers are compared with those of vLLM's own server, and how they are."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import httpx

from tests.harness.platform import CHAT_MODEL, EMBEDDING_MODEL

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
EMBEDDINGS, TOKENIZE, DETOKENIZE = "/v1/embeddings", "/tokenize", "/detokenize"
SCORE = "/v1/score"
# Two engines that add numbers in another order (a prefix that one has cached) differ by this.
TOLERANCE = 0.05
# In a folded stream: some chunk has the field, whatever it says.
FOLDED = "there"
_QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
_TURNS = [
    {"role": "system", "content": "Answer in one short sentence."},
    {"role": "user", "content": [{"type": "text", "text": "Name a colour."}]},
    {"role": "assistant", "content": "Blue."},
    {"role": "user", "content": "And another one?"},
]
_PLACE = {
    "type": "object",
    "properties": {"city": {"enum": ["Paris", "Rome"]}, "country": {"enum": ["France", "Italy"]}},
    "required": ["city", "country"],
    "additionalProperties": False,
}
_TOOL = {"type": "function", "function": {"name": "look_up", "parameters": _PLACE}}
_NAMED = {"type": "function", "function": {"name": "look_up"}}
_USAGE = {"stream": True, "stream_options": {"include_usage": True}}


def _chat(**fields: Any) -> tuple[str, dict[str, Any]]:
    base = {"model": CHAT_MODEL, "messages": _QUESTION, "temperature": 0, "max_tokens": 24}
    return CHAT, {**base, **fields}


def _completion(**fields: Any) -> tuple[str, dict[str, Any]]:
    base = {"model": CHAT_MODEL, "prompt": "The capital of France is", "temperature": 0}
    return COMPLETIONS, {**base, "max_tokens": 8, **fields}


def _embedding(**fields: Any) -> tuple[str, dict[str, Any]]:
    return EMBEDDINGS, {"model": EMBEDDING_MODEL, "input": "A cat sat on the mat.", **fields}


REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": _chat(),
    "chat of several turns": _chat(messages=_TURNS),
    "chat cut short": _chat(max_completion_tokens=3, max_tokens=None),
    "chat stopped": _chat(stop=["France", "Paris"]),
    "chat stopped and told": _chat(stop="Paris", include_stop_str_in_output=True),
    "chat with logprobs": _chat(logprobs=True, top_logprobs=3, max_tokens=4),
    "chat with a bias": _chat(logit_bias={"504": -100}, max_tokens=6),
    "chat with penalties": _chat(presence_penalty=1.5, frequency_penalty=1, max_tokens=16),
    "chat of a schema": _chat(
        response_format={"type": "json_schema", "json_schema": {"name": "p", "schema": _PLACE}},
        max_tokens=64,
    ),
    "chat of a choice": _chat(structured_outputs={"choice": ["Rome", "Paris"]}),
    "chat that must call": _chat(tools=[_TOOL], tool_choice=_NAMED, max_tokens=128),
    "chat that may call": _chat(tools=[_TOOL]),
    "streamed chat": _chat(stream=True),
    "streamed chat with usage": _chat(**_USAGE, max_tokens=6),
    "streamed chat with logprobs": _chat(**_USAGE, logprobs=True, max_tokens=4),
    "completion": _completion(),
    "completion with logprobs": _completion(logprobs=2),
    "completion with echo": _completion(echo=True),
    "completion scored": _completion(echo=True, logprobs=1, max_tokens=1),
    "completions of several prompts": _completion(prompt=["One, two,", "Once upon a time"]),
    "completion of token ids": _completion(prompt=[504, 3575, 282, 4649, 314]),
    "streamed completion": _completion(**_USAGE),
    "embedding": _embedding(),
    "embeddings of several": _embedding(input=["A cat sat.", "Prices rose by two percent."]),
    "embedding as base64": _embedding(encoding_format="base64"),
    "tokens of a text": (TOKENIZE, {"model": CHAT_MODEL, "prompt": "Paris is a city."}),
    "tokens of a chat": (TOKENIZE, {"model": CHAT_MODEL, "messages": _QUESTION}),
    "text of tokens": (DETOKENIZE, {"model": CHAT_MODEL, "tokens": [504, 3575, 282]}),
    "score": (SCORE, {"model": EMBEDDING_MODEL, "text_1": "A cat.", "text_2": ["A dog.", "Tax."]}),
}


def answer_of(client: httpx.Client, path: str, body: dict[str, Any]) -> Any:
    """The answer as JSON; a stream folded into what does not depend on where it was cut."""
    response = client.post(path, json=body)
    assert response.status_code == 200, f"{path}: {response.text}"
    return folded(response.text) if body.get("stream") else response.json()


def folded(text: str) -> dict[str, Any]:
    """What each chunk has in common, the first and the last ones, and all pieces together."""
    frames = [line.removeprefix("data: ") for line in text.split("\n") if line.startswith("data: ")]
    chunks = [json.loads(frame) for frame in frames if frame != "[DONE]"]
    with_choices = [chunk for chunk in chunks if chunk["choices"]]
    pieces = [chunk["choices"][0] for chunk in with_choices]
    logprobs = [piece["logprobs"] for piece in pieces if piece.get("logprobs")]
    return {
        "first": chunks[0],
        "chunk": {name: FOLDED for chunk in with_choices for name in chunk},
        "choice": {name: FOLDED for piece in pieces for name in piece},
        "delta": {name: FOLDED for piece in pieces for name in piece.get("delta", {})},
        "text": "".join(
            piece.get("text") or piece.get("delta", {}).get("content") or "" for piece in pieces
        ),
        "logprobs": [each for part in logprobs for each in part["content"]] if logprobs else None,
        "finish": [piece["finish_reason"] for piece in pieces if piece["finish_reason"]],
        "last": {name: value for name, value in chunks[-1].items() if name != "choices"},
        "done": frames[-1],
    }


def differences(ours: Any, theirs: Any, at: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Fields that differ, named without places in lists, with what either says."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for name in {**ours, **theirs}:
            below = f"{at}.{name}" if at else name
            if name not in ours or name not in theirs:
                yield below, ours.get(name, "absent"), theirs.get(name, "absent")
            else:
                yield from differences(ours[name], theirs[name], below)
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for one, other in zip(ours, theirs, strict=True):
            yield from differences(one, other, f"{at}[]")
    elif not _is_same(ours, theirs):
        yield at, ours, theirs


def _is_same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float | int):
        return math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return type(one) is type(other) and one == other


_IN_FOLD = {
    "first.": "",
    "last.": "",
    "chunk.": "",
    "choice.": "choices[].",
    "delta.": "choices[].delta.",
}


def field_of(path: str, is_stream: bool) -> str:
    """As the page of differences names it, whole or streamed."""
    if is_stream:
        for prefix, named in _IN_FOLD.items():
            if path.startswith(prefix):
                return named + path.removeprefix(prefix)
    return path
