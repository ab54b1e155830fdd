"""The part of ``benchmarks.parsing`` that imports the platform; Django must be set up."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from statistics import median
from types import SimpleNamespace

from api.chat_completions import handler, wire
from api.chat_completions.messages import screened_text, template_messages
from api.chat_completions.prompting import prompt_options
from api.chat_completions.rich import message_json
from api.chat_completions.tools import choice_of, tools_of
from api.choices import Choice
from api.errors import decoded
from api.parameters import output_limit, sampling_of
from benchmarks.routing_decisions import VOCABULARY, served_of
from benchmarks.server import say
from benchmarks.sizes import Sizes

_BODY = json.dumps(
    {
        "model": "smollm2-135m-instruct",
        "messages": [
            {"role": "system", "content": "You are a helpful assistant. Answer briefly."},
            {"role": "user", "content": "What is the capital of France, and how many live there?"},
        ],
        "max_tokens": 64,
        "temperature": 0.7,
        "top_p": 0.9,
        "stream": True,
    }
).encode()
_TEXT = " capital"
_ANSWER = "The capital of France is Paris. About two million people live there."
_PROMPT_TOKENS = 40


def costs(sizes: Sizes) -> dict[str, object]:
    """Microseconds of CPU for a request read, an answer and a chunk written."""
    measured = {
        "read": _cost(_reading(), sizes),
        "answer": _cost(_answering(), sizes),
        "chunk": _cost(_chunking(), sizes),
    }
    for name, us in measured.items():
        say(f"{name}: {us:.1f} us")
    return {
        "us": measured,
        "rounds": sizes.parsing_rounds,
        "times": sizes.parsing_times,
        "body_bytes": len(_BODY),
    }


def _cost(work: Callable[[], object], sizes: Sizes) -> float:
    return median(_round(work, sizes.parsing_times) for _ in range(sizes.parsing_rounds))


def _round(work: Callable[[], object], times: int) -> float:
    began = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - began) / times * 1e6


def _reading() -> Callable[[], object]:
    """``prepare`` and ``plan_of`` without resolving, rendering and tokenizing."""
    served = served_of(SimpleNamespace(vocab_size=VOCABULARY, sampling_defaults={}))

    def read() -> object:
        body = decoded(wire.decode, _BODY)
        handler._refuse_unsupported(body)
        tools = tools_of(body.tools)
        choice_of(body.tool_choice, tools)
        messages = template_messages(body.messages)
        prompt_options(body, tools)
        limit = output_limit(body.max_tokens, _PROMPT_TOKENS, served, "max_tokens", "messages")
        screened_text(messages)
        return sampling_of(body, limit, served, handler._wanted_logprobs(body))

    return read


def _answering() -> Callable[[], object]:
    choice = Choice(text=_ANSWER, finish_reason="stop")

    def write() -> object:
        return wire.to_json(
            {
                "id": "chatcmpl-0123456789abcdef",
                "object": "chat.completion",
                "created": 1_764_000_000,
                "model": "smollm2-135m-instruct",
                "choices": [
                    {
                        "index": 0,
                        "message": message_json(choice),
                        "logprobs": None,
                        "finish_reason": "stop",
                    }
                ],
                "usage": wire.usage_of(_PROMPT_TOKENS, 0, 16),
                "service_tier": "default",
                "system_fingerprint": "fp_0123456789",
            }
        )

    return write


def _chunking() -> Callable[[], object]:
    writer = wire.ChunkWriter(
        "chatcmpl-0123456789abcdef", 1_764_000_000, "smollm2-135m-instruct", False, "default", "fp"
    )
    write_text = writer.texts(0, lambda _frame: True)
    return lambda: write_text(_TEXT)
