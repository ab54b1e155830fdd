"""Responses on the real engine: calls, their results, structured text, and how an answer ends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Literal

import pytest
from openai import OpenAI
from pydantic import BaseModel

from tests.harness.platform import CHAT_MODEL, Platform

BASE: dict[str, Any] = {"model": CHAT_MODEL, "temperature": 0, "max_output_tokens": 96}
WEATHER: dict[str, Any] = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather of a city.",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"city": {"enum": ["Paris", "Rome"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
}


class City(BaseModel):
    city: Literal["Paris", "Rome"]


@pytest.fixture(scope="module")
def client(live: Platform) -> Iterator[OpenAI]:
    with live.openai() as client:
        yield client


def test_a_call_streamed_and_whole_and_the_turn_after_it(client: OpenAI) -> None:
    options: dict[str, Any] = {**BASE, "tools": [WEATHER], "tool_choice": "required"}
    options["parallel_tool_calls"] = False
    whole = client.responses.create(**options, input="How is the weather in Paris?")
    (call,) = whole.output
    assert call.type == "function_call" and call.name == "get_weather"
    assert whole.status == "completed" and json.loads(call.arguments)["city"] in ("Paris", "Rome")
    with client.responses.stream(**options, input="How is the weather in Paris?") as stream:
        events = list(stream)
        final = stream.get_final_response()
    (streamed,) = final.output
    # The parser writes a whole call's arguments anew; a stream has the model's own spaces.
    assert streamed.type == "function_call"
    assert json.loads(streamed.arguments) == json.loads(call.arguments)
    deltas = [e.delta for e in events if e.type == "response.function_call_arguments.delta"]
    assert len(deltas) > 1 and "".join(deltas) == streamed.arguments
    after = client.responses.create(
        **BASE,
        tools=[WEATHER],
        tool_choice="none",
        previous_response_id=whole.id,
        input=[{"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}],
    )
    assert after.output_text
    by_hand = client.responses.input_tokens.count(
        model=CHAT_MODEL,
        tools=[WEATHER],  # type: ignore[list-item]
        tool_choice="none",
        input=[
            {"role": "user", "content": "How is the weather in Paris?"},
            {"type": "function_call", "call_id": call.call_id, "name": call.name,
             "arguments": call.arguments},
            {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"},
        ],
    )  # fmt: skip
    assert after.usage is not None and after.usage.input_tokens == by_hand.input_tokens


def test_structured_text_is_parsed_by_the_client(client: OpenAI) -> None:
    parsed = client.responses.parse(**BASE, input="The capital of France?", text_format=City)
    assert parsed.output_parsed is not None and parsed.output_parsed.city in ("Paris", "Rome")
    assert parsed.status == "completed" and parsed.completed_at is not None


def test_logprobs_are_the_texts_own(client: OpenAI) -> None:
    response = client.responses.create(
        **{**BASE, "max_output_tokens": 4}, input="Count.", top_logprobs=2,
        include=["message.output_text.logprobs"],
    )  # fmt: skip
    (message,) = response.output
    assert message.type == "message" and message.content[0].type == "output_text"
    part = message.content[0]
    assert "".join(each.token for each in part.logprobs or []) == part.text
    assert all(len(each.top_logprobs) == 2 for each in part.logprobs or [])
