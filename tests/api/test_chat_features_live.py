"""Tools, structured output and logprobs on the real engine, through the official client."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from openai import BadRequestError, OpenAI

from tests.harness.platform import CHAT_MODEL, Platform

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
CITY = {
    "type": "object",
    "properties": {"city": {"enum": ["Paris", "Rome"]}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": CITY,
        "strict": True,
    },
}
TIME = {"type": "function", "function": {"name": "get_time", "parameters": CITY, "strict": True}}
# Without strict arguments nothing of an answer is constrained while it may call.
PLAIN = {"type": "function", "function": {"name": "get_time", "parameters": CITY}}
BASE = {"model": CHAT_MODEL, "messages": QUESTION, "temperature": 0, "max_tokens": 96}


@pytest.fixture(scope="module")
def client(live: Platform) -> Iterator[OpenAI]:
    with live.openai() as client:
        yield client


def test_a_required_call_follows_its_schema_whole_and_streamed(client: OpenAI) -> None:
    options: dict[str, Any] = {**BASE, "tools": [WEATHER, TIME], "tool_choice": "required"}
    options["parallel_tool_calls"] = False
    whole = client.chat.completions.create(**options)
    (call,) = whole.choices[0].message.tool_calls or []
    assert whole.choices[0].finish_reason == "tool_calls"
    assert whole.choices[0].message.content is None
    assert call.type == "function"
    assert call.function.name in {"get_weather", "get_time"}
    arguments = json.loads(call.function.arguments)
    assert arguments in ({"city": "Paris"}, {"city": "Rome"})

    chunks = list(
        client.chat.completions.create(
            **options, stream=True, stream_options={"include_usage": True}
        )
    )
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    parts = [part for delta in deltas for part in delta.tool_calls or []]
    assert deltas[0].role == "assistant"
    assert [part.function.name for part in parts if part.function and part.function.name] == [
        call.function.name
    ]
    assert len({part.id for part in parts if part.id}) == 1
    assert len(parts) > 3  # it did stream
    text = "".join(part.function.arguments or "" for part in parts if part.function)
    assert json.loads(text) == arguments
    assert "".join(delta.content or "" for delta in deltas) == ""
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "tool_calls"
    assert chunks[-1].usage is not None
    assert whole.usage is not None
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens


def test_a_named_call_is_of_that_function_and_stops(client: OpenAI) -> None:
    named = {"type": "function", "function": {"name": "get_time"}}
    answer = client.chat.completions.create(**BASE, tools=[WEATHER, TIME], tool_choice=named)
    (choice,) = answer.choices
    (call,) = choice.message.tool_calls or []
    assert (call.function.name, choice.finish_reason) == ("get_time", "stop")
    assert set(json.loads(call.function.arguments)) == {"city"}


def test_what_is_not_called_is_content(client: OpenAI) -> None:
    """The model's template tells it of no tools: it answers as without them."""
    plain = client.chat.completions.create(**BASE)
    auto = client.chat.completions.create(**BASE, tools=[PLAIN])
    none = client.chat.completions.create(**BASE, tools=[WEATHER], tool_choice="none")
    content = plain.choices[0].message.content
    assert "Paris" in (content or "")
    assert auto.choices[0].message.content == none.choices[0].message.content == content
    assert auto.choices[0].message.tool_calls is None
    assert auto.choices[0].finish_reason == "stop"


def test_a_conversation_with_a_tool_goes_on(client: OpenAI) -> None:
    called = client.chat.completions.create(**BASE, tools=[WEATHER], tool_choice="required")
    message = called.choices[0].message
    (call,) = message.tool_calls or []
    answer = client.chat.completions.create(
        model=CHAT_MODEL,
        messages=[
            *QUESTION,
            message,  # type: ignore[list-item]
            {"role": "tool", "tool_call_id": call.id, "content": "Sunny"},
            {"role": "user", "content": [{"type": "text", "text": "So?"}]},
        ],
        tools=[WEATHER],  # type: ignore[list-item]
        max_tokens=4,
    )
    assert answer.choices[0].message.content


@pytest.mark.parametrize(
    ("fields", "matches"),
    [
        ({"response_format": {"type": "json_object"}}, r"\{"),
        (
            {"extra_body": {"structured_outputs": {"regex": "[0-9]{3}-[a-f]{2}"}}},
            r"\d{3}-[a-f]{2}$",
        ),
        ({"extra_body": {"guided_choice": ["Lyon", "Nice"]}}, r"(Lyon|Nice)$"),
        (
            {"extra_body": {"structured_outputs": {"grammar": 'root ::= "x" "y"{2} | "z"'}}},
            r"(xyy|z)$",
        ),
    ],
)
def test_an_answer_is_of_the_form_that_was_asked_for(
    client: OpenAI, fields: dict[str, Any], matches: str
) -> None:
    answer = client.chat.completions.create(**{**BASE, "max_tokens": 24}, **fields)
    assert re.match(matches, answer.choices[0].message.content or "")


def test_a_schema_holds_streamed_and_for_each_choice(client: OpenAI) -> None:
    schema = {"name": "city", "strict": True, "schema": CITY}
    stream = client.chat.completions.create(
        **{**BASE, "temperature": 1.0},
        n=2,
        seed=3,
        response_format={"type": "json_schema", "json_schema": schema},  # type: ignore[typeddict-item]
        stream=True,
    )
    texts = ["", ""]
    for chunk in stream:
        texts[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    for text in texts:
        assert set(json.loads(text)) == {"city"}
    parsed = client.completions.create(
        model=CHAT_MODEL,
        prompt="Paris:",
        max_tokens=64,
        temperature=0,
        extra_body={"response_format": {"type": "json_schema", "json_schema": schema}},
    )
    assert set(json.loads(parsed.choices[0].text)) == {"city"}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        # Small to look at, gigabytes to compile, or nothing at all: only a compiler can tell.
        ({"structured_outputs": {"regex": ".*" * 500 + "x"}}, "structured_outputs.regex"),
        ({"structured_outputs": {"grammar": 'root ::= root "a"'}}, "structured_outputs.grammar"),
        ({"structured_outputs": {"grammar": "root ::= ("}}, "structured_outputs.grammar"),
        (
            {"guided_json": {"type": "integer", "multipleOf": 3}},
            "guided_json",
        ),
        # A reference that goes in a circle.
        (
            {"guided_json": {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}},
            "guided_json",
        ),
    ],
)
def test_a_grammar_that_cannot_be_compiled_is_refused_and_the_engine_lives(
    client: OpenAI, fields: dict[str, Any], param: str
) -> None:
    with pytest.raises(BadRequestError) as refused:
        client.chat.completions.create(**BASE, extra_body=fields)
    assert refused.value.param == param
    answer = client.chat.completions.create(**{**BASE, "max_tokens": 4})
    assert answer.choices[0].finish_reason == "length"


def test_logprobs_of_chat_are_the_likeliest_tokens(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        **{**BASE, "temperature": 1.0, "max_tokens": 12}, seed=5, logprobs=True, top_logprobs=3
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    for token in logprobs.content or []:
        values = [each.logprob for each in token.top_logprobs]
        assert values == sorted(values, reverse=True)
        assert len(values) == 3
        assert token.logprob <= values[0]
        assert bytes(token.bytes or []).decode() == token.token


def test_echo_repeats_the_prompt_with_its_logprobs(client: OpenAI) -> None:
    prompt = "The capital of France is"
    options: dict[str, Any] = {"model": CHAT_MODEL, "prompt": prompt, "temperature": 0}
    scored = client.completions.create(**options, echo=True, max_tokens=0, logprobs=2)
    (choice,) = scored.choices
    assert choice.text == prompt
    assert choice.logprobs is not None
    assert "".join(choice.logprobs.tokens or []) == prompt
    assert choice.logprobs.token_logprobs is not None
    assert choice.logprobs.token_logprobs[0] is None
    assert all(value is not None and value <= 0 for value in choice.logprobs.token_logprobs[1:])

    whole = client.completions.create(**options, echo=True, max_tokens=4, logprobs=0)
    alone = client.completions.create(**options, max_tokens=4, logprobs=0)
    assert whole.choices[0].text == prompt + alone.choices[0].text
    after = whole.choices[0].logprobs
    assert after is not None
    assert after.text_offset is not None
    assert after.text_offset[-1] + len((after.tokens or [""])[-1]) == len(whole.choices[0].text)
    streamed = list(client.completions.create(**options, echo=True, max_tokens=4, stream=True))
    assert "".join(chunk.choices[0].text for chunk in streamed) == whole.choices[0].text
    by_ids = client.completions.create(**{**options, "prompt": [[504, 3575]]}, echo=True)
    assert by_ids.choices[0].text.startswith("The capital")


def test_a_scored_prompt_has_the_logprobs_that_it_would_be_given(client: OpenAI) -> None:
    """What the engine says when it makes the tokens, and when it reads them."""
    options: dict[str, Any] = {"model": CHAT_MODEL, "temperature": 0, "logprobs": 0}
    # So few that their text is the same tokens again.
    made = client.completions.create(**options, prompt="The capital of France is", max_tokens=2)
    text = "The capital of France is" + made.choices[0].text
    read = client.completions.create(**options, prompt=text, echo=True, max_tokens=0)
    assert made.choices[0].logprobs is not None
    assert read.choices[0].logprobs is not None
    assert made.usage is not None
    given = made.choices[0].logprobs.token_logprobs or []
    found = (read.choices[0].logprobs.token_logprobs or [])[made.usage.prompt_tokens :]
    for one, other in zip(given, found, strict=True):
        assert one is not None
        assert other is not None
        assert math.isclose(one, other, abs_tol=0.15)


def test_the_best_of_several_is_the_likeliest(client: OpenAI) -> None:
    options: dict[str, Any] = {"model": CHAT_MODEL, "prompt": "A cat", "max_tokens": 6}
    options |= {"temperature": 1.0, "seed": 11, "logprobs": 0}
    every = client.completions.create(**options, n=4)
    best = client.completions.create(**options, best_of=4)
    assert best.usage is not None
    assert best.usage.completion_tokens == 24

    def mean(choice: Any) -> float:
        return float(sum(choice.logprobs.token_logprobs) / len(choice.logprobs.token_logprobs))

    assert best.choices[0].text == max(every.choices, key=mean).text


def test_a_last_message_is_continued(client: OpenAI) -> None:
    begun = [*QUESTION, {"role": "assistant", "content": "The capital of France is"}]
    extra = {"continue_final_message": True, "add_generation_prompt": False}
    answer = client.chat.completions.create(**{**BASE, "messages": begun}, extra_body=extra)
    assert (answer.choices[0].message.content or "").startswith(" Paris")


def test_usage_comes_with_every_chunk_if_wanted(live: Platform) -> None:
    body = {
        **BASE,
        "max_tokens": 5,
        "stream": True,
        "stream_options": {
            "include_usage": True,
            "continuous_usage_stats": True,
            "include_obfuscation": False,
        },
    }
    with live.http() as http:
        answer = http.post("/v1/chat/completions", json=body)
    chunks = _chunks(answer)
    counts = [chunk["usage"]["completion_tokens"] for chunk in chunks]
    assert counts == sorted(counts)
    assert counts[0] == 0
    assert counts[-1] == 5
    assert all(chunk["system_fingerprint"].startswith("fp_") for chunk in chunks)


def _chunks(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    frames = [line.removeprefix("data: ") for line in answer.text.splitlines() if line]
    assert frames[-1] == "[DONE]"
    return [json.loads(frame) for frame in frames[:-1]]
