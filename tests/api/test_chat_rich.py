"""Chunks and messages of answers with reasoning and tool calls, as OpenAI and vLLM write them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from api.chat_completions.rich import RichStream, message_json
from api.chat_completions.wire import ChunkWriter, logprobs_of, usage_of
from api.choices import Choice
from api.completions.echo import best
from api.run import Part
from inference.dispatch import Output
from inference.wire import Logprob, MessagePart, ToolCallPart

BEGUN = MessagePart(tool_calls=[ToolCallPart(0, "call-1", "f", '{"a"')])
ENDED = MessagePart(tool_calls=[ToolCallPart(0, arguments=": 1}")], reasoning_tokens=2)


class Answer:
    """In a run's place: parts that came."""

    def __init__(self, *parts: Part):
        self._parts = parts

    async def parts(self) -> AsyncIterator[Part]:
        for part in self._parts:
            yield part


async def chunks_of(
    *parts: Part, n: int = 1, is_named: bool = False, with_usage: bool = False
) -> list[dict[str, Any]]:
    stream = RichStream(
        ChunkWriter("id", 1, "m", False, "default", "fp_1"),
        n,
        is_named=is_named,
        logprobs_json=lambda found: logprobs_of(found, 0),
        usage=(lambda made, thought: usage_of(3, 0, made, thought)) if with_usage else None,
    )
    run: Any = Answer(*parts)
    frames = [frame async for ready in stream.chunks(run) for frame in ready]
    assert stream.last  # the end waits for the settlement
    return [json.loads(frame) for frame in [*frames, *stream.last]]


def parts_of_a_call(index: int = 0) -> list[Part]:
    return [
        Part(index, Output([1, 2], "", message=MessagePart("Hm. "))),
        Part(index, Output([3], "So: ")),
        Part(index, Output([4], "", message=BEGUN)),
        Part(index, Output([5], "", finish_reason="stop", message=ENDED)),
    ]


async def test_a_call_is_streamed_in_parts() -> None:
    chunks = await chunks_of(*parts_of_a_call())
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas == [
        {"role": "assistant", "content": ""},
        {"reasoning": "Hm. "},
        {"content": "So: "},
        {
            "tool_calls": [
                {
                    "index": 0,
                    "id": "call-1",
                    "type": "function",
                    "function": {"name": "f", "arguments": '{"a"'},
                }
            ]
        },
        {"tool_calls": [{"index": 0, "function": {"arguments": ": 1}"}}]},
        {},
    ]
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
    assert reasons == [None] * 5 + ["tool_calls"]
    assert all(chunk["system_fingerprint"] == "fp_1" for chunk in chunks)


async def test_who_named_the_function_is_told_that_it_stopped() -> None:
    assert (await chunks_of(*parts_of_a_call(), is_named=True))[-1]["choices"][0][
        "finish_reason"
    ] == "stop"
    cut = Part(0, Output([1], "", finish_reason="length", message=BEGUN))
    assert (await chunks_of(cut))[-1]["choices"][0]["finish_reason"] == "length"


async def test_each_choice_begins_and_ends_once_with_its_own_usage() -> None:
    both = [
        part for pair in zip(parts_of_a_call(), parts_of_a_call(1), strict=True) for part in pair
    ]
    chunks = await chunks_of(*both, n=2, with_usage=True)
    for index in (0, 1):
        own = [chunk for chunk in chunks if chunk["choices"][0]["index"] == index]
        assert [c["usage"]["completion_tokens"] for c in own] == [0, 2, 3, 4, 5, 5]
        assert [c["choices"][0]["finish_reason"] for c in own][-1] == "tool_calls"
        assert sum("role" in c["choices"][0]["delta"] for c in own) == 1


async def test_tokens_that_became_nothing_yet_still_give_their_logprobs() -> None:
    held = Output([1], "", logprobs=[Logprob(1, "<", -0.1, [])])
    chunks = await chunks_of(Part(0, held), Part(0, Output([2], "", finish_reason="stop")))
    (shown,) = [c["choices"][0] for c in chunks if c["choices"][0]["logprobs"]]
    assert shown["delta"] == {}
    assert shown["logprobs"]["content"][0]["token"] == "<"


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (Choice("Hi"), {"content": "Hi"}),
        (Choice(""), {"content": ""}),
        (Choice("Hi", message=MessagePart("Hm.")), {"content": "Hi", "reasoning": "Hm."}),
        (
            Choice("", message=BEGUN.plus(ENDED)),
            {
                "content": None,
                "tool_calls": [
                    {
                        "id": "call-1",
                        "type": "function",
                        "function": {"name": "f", "arguments": '{"a": 1}'},
                    }
                ],
            },
        ),
    ],
)
def test_a_whole_message(choice: Choice, message: dict[str, Any]) -> None:
    assert message_json(choice) == {"role": "assistant", "refusal": None, **message}


def test_the_best_are_the_likeliest_by_token_of_each_prompt() -> None:
    def made(text: str, *logprobs: float) -> Choice:
        return Choice(text, logprobs=[Logprob(1, "x", value, []) for value in logprobs])

    choices = [made("a", -1, -3), made("b", -1.5), made("c", -9), made("d", -2), made("e", -1, -1, -1),
               made("f", -0.5)]  # fmt: skip
    assert [choice.text for choice in best(choices, 3, 2)] == ["b", "a", "f", "e"]
    assert best(choices, 3, 3) == choices
