"""Anthropic's messages on the real engine, through its official client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from anthropic import Anthropic

from tests.harness.platform import CHAT_MODEL, Platform

BASE: dict[str, Any] = {
    "model": CHAT_MODEL,
    "max_tokens": 96,
    "messages": [{"role": "user", "content": "What is the capital of France?"}],
    # The client has no field for it any more; the API does.
    "extra_body": {"temperature": 0},
}
WEATHER = {
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


@pytest.fixture(scope="module")
def client(live: Platform) -> Iterator[Anthropic]:
    with Anthropic(base_url=live.url, api_key=live.key, max_retries=0) as client:
        yield client


def test_a_message_is_what_a_chat_says_whole_and_streamed(
    live: Platform, client: Anthropic
) -> None:
    chat = live.openai().chat.completions.create(
        model=CHAT_MODEL, messages=BASE["messages"], temperature=0, max_tokens=96
    )
    whole = client.messages.create(**BASE)
    assert whole.content[0].type == "text"
    assert whole.content[0].text == chat.choices[0].message.content
    assert "Paris" in whole.content[0].text
    assert (whole.stop_reason, whole.role, whole.model) == ("end_turn", "assistant", CHAT_MODEL)

    with client.messages.stream(**BASE) as stream:
        parts = list(stream.text_stream)
        told = stream.get_final_message()
    assert len(parts) > 3  # it did stream
    assert "".join(parts) == whole.content[0].text
    assert told.stop_reason == "end_turn"
    assert told.usage.output_tokens == whole.usage.output_tokens
    assert chat.usage is not None
    for usage in (whole.usage, told.usage):
        prompt = usage.input_tokens + (usage.cache_read_input_tokens or 0)
        assert (prompt, usage.output_tokens) == (
            chat.usage.prompt_tokens, chat.usage.completion_tokens,
        )  # fmt: skip
    row = live.usage_row(
        whole.id.removeprefix("msg_"), "prompt_tokens, completion_tokens, endpoint, status"
    )
    assert row == (prompt, whole.usage.output_tokens, "messages", "completed")


def test_a_stop_sequence_is_told(client: Anthropic) -> None:
    options = {**BASE, "stop_sequences": ["nothing like it", "Paris"]}
    whole = client.messages.create(**options)
    with client.messages.stream(**options) as stream:
        told = stream.get_final_message()
    for message in (whole, told):
        assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "Paris")
        assert "Paris" not in "".join(b.text for b in message.content if b.type == "text")


def test_a_tool_is_used_whole_and_streamed(client: Anthropic) -> None:
    options = {**BASE, "tools": [WEATHER], "tool_choice": {"type": "any"}}
    options["tool_choice"]["disable_parallel_tool_use"] = True
    whole = client.messages.create(**options)
    (used,) = whole.content
    assert used.type == "tool_use"
    assert (used.name, whole.stop_reason) == ("get_weather", "tool_use")
    assert used.input in ({"city": "Paris"}, {"city": "Rome"})

    with client.messages.stream(**options) as stream:
        events = list(stream)
        (told,) = stream.get_final_message().content
    parts = [event for event in events if event.type == "input_json"]
    assert len(parts) > 1
    assert told.type == "tool_use"
    assert (told.name, told.input) == (used.name, used.input)

    answer = client.messages.create(
        **{
            **options,
            "max_tokens": 8,
            "tool_choice": {"type": "none"},
            "messages": [
                *BASE["messages"],
                {"role": "assistant", "content": [used.model_dump(exclude_none=True)]},
                {
                    "role": "user",
                    "content": [
                        {"type": "tool_result", "tool_use_id": used.id, "content": "It rains."}
                    ],
                },
            ],
        }
    )
    assert answer.stop_reason in ("end_turn", "max_tokens")
    assert answer.usage.input_tokens + (answer.usage.cache_read_input_tokens or 0) > (
        whole.usage.input_tokens + (whole.usage.cache_read_input_tokens or 0)
    )


def test_a_named_tool_is_used(client: Anthropic) -> None:
    message = client.messages.create(
        **BASE, tools=[WEATHER], tool_choice={"type": "tool", "name": "get_weather"}
    )
    assert [block.type for block in message.content] == ["tool_use"]
    assert message.stop_reason == "tool_use"


def test_an_answer_follows_a_schema(client: Anthropic) -> None:
    config = {"format": {"type": "json_schema", "schema": WEATHER["input_schema"]}}
    message = client.messages.create(**BASE, output_config=config)  # type: ignore[arg-type]
    assert message.content[0].type == "text"
    assert json.loads(message.content[0].text)["city"] in ("Paris", "Rome")


def test_an_assistants_turn_is_continued(client: Anthropic) -> None:
    opened = {"role": "assistant", "content": "The capital of France is"}
    message = client.messages.create(
        **{**BASE, "max_tokens": 4, "messages": [*BASE["messages"], opened]}
    )
    assert message.content[0].type == "text"
    assert message.content[0].text.startswith(" Paris")


def test_what_cannot_fit_ends_with_the_context(client: Anthropic) -> None:
    message = client.messages.create(
        **{**BASE, "max_tokens": 1_000_000, "stop_sequences": ["."]}, timeout=60
    )
    assert message.stop_reason == "stop_sequence"


def test_counting_is_exact_and_free(live: Platform, client: Anthropic) -> None:
    prompt = {"model": CHAT_MODEL, "messages": BASE["messages"], "tools": [WEATHER]}
    events = live.query("SELECT count(*) FROM billing_usageevent WHERE endpoint LIKE '%%token%%'")
    counted = client.messages.count_tokens(**prompt)  # type: ignore[arg-type]
    message = client.messages.create(**prompt, max_tokens=1)  # type: ignore[arg-type]
    usage = message.usage
    assert counted.input_tokens == usage.input_tokens + (usage.cache_read_input_tokens or 0)
    live.usage_row(message.id.removeprefix("msg_"), "status")
    assert events == live.query(
        "SELECT count(*) FROM billing_usageevent WHERE endpoint LIKE '%%token%%'"
    )


def test_models_are_anthropics_to_its_clients(live: Platform, client: Anthropic) -> None:
    page = client.models.list()
    assert CHAT_MODEL in [model.id for model in page]
    assert client.models.retrieve(CHAT_MODEL).type == "model"
    with pytest.raises(anthropic.NotFoundError) as caught:
        client.models.retrieve("nothing")
    assert caught.value.body["error"]["type"] == "not_found_error"  # type: ignore[index]
    assert live.openai().models.retrieve(CHAT_MODEL).object == "model"


def test_errors_are_the_clients_own(live: Platform, client: Anthropic) -> None:
    with pytest.raises(anthropic.BadRequestError) as bad:
        client.messages.create(**{**BASE, "extra_body": {"temperature": 3}})
    assert bad.value.body["error"]["message"].startswith("temperature: ")  # type: ignore[index]
    assert bad.value.request_id == bad.value.body["request_id"]  # type: ignore[index]
    with pytest.raises(anthropic.AuthenticationError):
        client.with_options(api_key="sk-proj-wrong").messages.create(**BASE)
    # Elsewhere only Authorization names a key.
    with live.http(None) as plain:
        key = {"x-api-key": live.key}
        assert plain.post("/v1/chat/completions", json={}, headers=key).status_code == 401
        assert plain.get("/v1/organization/projects", headers=key).status_code == 401
        two = {**key, "Authorization": f"Bearer {live.other_key}"}
        assert plain.post("/v1/messages", json={}, headers=two).status_code == 401
