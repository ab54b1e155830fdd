"""Anthropic's Python client: its helpers and exceptions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import anthropic
import pytest
from pydantic import BaseModel

from tests.harness.platform import CHAT_MODEL, Platform

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
# The client's newest models have no temperature, so that it has no argument for one.
COLD = {"temperature": 0}
BASE = {"model": CHAT_MODEL, "messages": QUESTION, "max_tokens": 64, "extra_body": COLD}
TOOL = {
    "name": "get_weather",
    "description": "The weather of a city.",
    "strict": True,
    "input_schema": {
        "type": "object",
        "properties": {"city": {"enum": ["Paris", "Rome"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
}


class Place(BaseModel):
    city: Literal["Paris", "Rome"]
    country: Literal["France", "Italy"]


def client_of(live: Platform, key: str) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=live.url, api_key=key, max_retries=0)


@pytest.fixture(scope="module")
def client(live: Platform) -> Iterator[anthropic.Anthropic]:
    with client_of(live, live.key) as client:
        yield client


def test_a_stream_and_its_final_message(client: anthropic.Anthropic) -> None:
    with client.messages.stream(**BASE) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert "Paris" in text and final.content[0].text == text
    assert final.stop_reason == "end_turn" and final.usage.output_tokens > 0


def test_a_tool_is_used_and_its_result_read(client: anthropic.Anthropic) -> None:
    options = {**BASE, "tools": [TOOL], "tool_choice": {"type": "any"}}
    with client.messages.stream(**options) as stream:
        used = stream.get_final_message()
    [block] = [each for each in used.content if each.type == "tool_use"]
    assert used.stop_reason == "tool_use" and block.input["city"] in ("Paris", "Rome")
    result = {"type": "tool_result", "tool_use_id": block.id, "content": "It is sunny."}
    turns = [
        *QUESTION,
        {
            "role": "assistant",
            "content": [block.model_dump(include={"type", "id", "name", "input"})],
        },
        {"role": "user", "content": [result]},
    ]
    after = client.messages.create(**{**BASE, "messages": turns, "tools": [TOOL]})
    assert after.content


def test_structured_output_is_parsed(client: anthropic.Anthropic) -> None:
    parsed = client.messages.parse(**BASE, output_format=Place)
    assert isinstance(parsed.parsed_output, Place)


def test_a_refusal_is_the_exception_that_programs_catch(
    live: Platform, client: anthropic.Anthropic, spent_key: str
) -> None:
    with pytest.raises(anthropic.NotFoundError):
        client.messages.create(**{**BASE, "model": "claude-nothing"})
    with pytest.raises(anthropic.BadRequestError, match="max_tokens"):
        client.messages.create(**{**BASE, "max_tokens": 0})
    for key, expected in (
        ("sk-proj-wrong", anthropic.AuthenticationError),
        (live.demo["SLUICE_ADMIN_KEY"], anthropic.PermissionDeniedError),
        (spent_key, anthropic.RateLimitError),
    ):
        with client_of(live, key) as other, pytest.raises(expected) as refused:
            other.messages.create(**BASE)
        assert refused.value.request_id
        assert refused.value.body["type"] == "error"  # type: ignore[index]
