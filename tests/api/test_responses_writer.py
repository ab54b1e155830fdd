"""Responses as the writer tells them, judged by OpenAI's own client: types and accumulation."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from openai import omit
from openai._models import construct_type_unchecked
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from api.responses.chat import chat_request, renamed
from api.responses.items import chat_messages, stored_items
from api.responses.wire import decode
from api.responses.writer import ResponseWriter
from inference.dispatch import Output
from inference.errors import InvalidRequest
from inference.wire import Logprob, MessagePart, ToolCallPart

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
USAGE = {
    "input_tokens": 5,
    "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
    "output_tokens": 7,
    "output_tokens_details": {"reasoning_tokens": 2},
    "total_tokens": 12,
}


def empty() -> dict[str, Any]:
    return {
        "id": "resp_1", "object": "response", "created_at": 1, "status": "in_progress",
        "model": "m", "output": [], "parallel_tool_calls": True, "tool_choice": "auto",
        "tools": [], "error": None, "incomplete_details": None, "metadata": {},
    }  # fmt: skip


def written(
    outputs: list[Output], status: str = "completed", top: int | None = None
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """All events, and the response at their end."""
    writer = ResponseWriter(empty(), top)
    events = writer.begin()
    for output in outputs:
        events += writer.output(output)
    events += writer.end(status, usage=USAGE)
    events.append(writer.last())
    return [json.loads(event) for event in events], writer.response


def part(reasoning: str = "", *calls: ToolCallPart, text: str = "") -> Output:
    return Output([1], text, message=MessagePart(reasoning, list(calls), len(reasoning)))


ALL_KINDS = [
    part("think"), part("ing"), part(text="Let me "), part(text="see."),
    part("", ToolCallPart(0, "call_a", "f", "")), part("", ToolCallPart(0, "", "", '{"x":')),
    part("", ToolCallPart(0, "", "", "1}"), ToolCallPart(1, "call_b", "g", "{}")),
]  # fmt: skip


def test_every_event_is_one_of_the_clients_and_in_order() -> None:
    events, response = written(ALL_KINDS)
    for event in events:
        EVENT.validate_python(event)
    Response.model_validate(response)
    numbers = [event["sequence_number"] for event in events]
    assert numbers == list(range(len(events)))
    kinds = [event["type"] for event in events]
    added, done = "response.content_part.added", "response.content_part.done"
    arguments = "response.function_call_arguments"
    assert kinds == [
        "response.created", "response.in_progress",
        "response.output_item.added", added, *["response.reasoning_text.delta"] * 2,
        "response.reasoning_text.done", done, "response.output_item.done",
        "response.output_item.added", added, *["response.output_text.delta"] * 2,
        "response.output_text.done", done, "response.output_item.done",
        "response.output_item.added", *[f"{arguments}.delta"] * 2, f"{arguments}.done",
        "response.output_item.done",
        "response.output_item.added", f"{arguments}.delta", f"{arguments}.done",
        "response.output_item.done",
        "response.completed",
    ]  # fmt: skip
    assert [event["output_index"] for event in events if "item" in event] == [
        0, 0, 1, 1, 2, 2, 3, 3
    ]  # fmt: skip


def test_deltas_add_up_to_the_items_and_to_what_the_client_accumulates() -> None:
    events, response = written(ALL_KINDS)
    reasoning, message, first, second = response["output"]
    assert reasoning["content"] == [{"type": "reasoning_text", "text": "thinking"}]
    assert message["content"][0]["text"] == "Let me see."
    assert (first["call_id"], first["name"], first["arguments"]) == ("call_a", "f", '{"x":1}')
    assert (second["call_id"], second["arguments"]) == ("call_b", "{}")
    assert {item["status"] for item in response["output"]} == {"completed"}
    assert len({item["id"] for item in response["output"]}) == 4
    state: Any = ResponseStreamState(text_format=omit, input_tools=[])
    told = [
        state.handle_event(construct_type_unchecked(type_=ResponseStreamEvent, value=event))  # type: ignore[arg-type]
        for event in events
    ]
    final = told[-1][-1].response
    assert final.output_text == "Let me see." and final.usage.total_tokens == 12
    for before, after in pairwise(events):
        if after["type"] == "response.output_item.done":
            assert before["item_id"] == after["item"]["id"]


def test_an_answer_cut_short_leaves_its_last_item_incomplete() -> None:
    events, response = written([part("so"), part(text="Once upon")], "incomplete")
    assert events[-1]["type"] == "response.incomplete"
    assert [item["status"] for item in response["output"]] == ["completed", "incomplete"]


def test_nothing_said_is_an_empty_message_and_a_failure_has_none() -> None:
    assert written([])[1]["output"][0]["content"][0]["text"] == ""
    events, response = written([], "failed")
    assert response["output"] == [] and events[-1]["type"] == "response.failed"


def test_logprobs_go_with_deltas_and_parts_if_they_are_asked_for() -> None:
    output = Output([1], "a", logprobs=[Logprob(1, "a", -0.5, [(1, "a", -0.5), (2, "b", -1.0)])])
    events, response = written([output], top=1)
    (delta,) = [each for each in events if each["type"] == "response.output_text.delta"]
    (told,) = delta["logprobs"]
    assert (told["token"], told["logprob"], len(told["top_logprobs"])) == ("a", -0.5, 1)
    assert response["output"][0]["content"][0]["logprobs"] == [told]
    assert written([output])[1]["output"][0]["content"][0]["logprobs"] == []


# --- Input --------------------------------------------------------------------------------------


def test_items_of_one_turn_become_one_message_of_the_assistant() -> None:
    items = stored_items(
        [
            {"role": "user", "content": "Weather?"},
            {"type": "reasoning", "summary": [],
             "content": [{"type": "reasoning_text", "text": "hm"}]},
            {"type": "message", "role": "assistant",
             "content": [{"type": "output_text", "text": "Looking.", "annotations": []}]},
            {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
            {"type": "function_call", "call_id": "c2", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c1", "output": "sun"},
            {"type": "function_call_output", "call_id": "c2",
             "output": [{"type": "input_text", "text": "rain"}]},
            {"role": "assistant", "content": "Both."},
            {"role": "assistant", "content": "Really."},
        ]
    )  # fmt: skip
    messages = chat_messages(items)
    assert [message["role"] for message in messages] == [
        "user", "assistant", "tool", "tool", "assistant", "assistant"
    ]  # fmt: skip
    turn = messages[1]
    assert (turn["reasoning"], turn["content"]) == ("hm", "Looking.")
    assert [call["id"] for call in turn["tool_calls"]] == ["c1", "c2"]
    assert messages[3] == {"role": "tool", "tool_call_id": "c2", "content": "rain"}


@pytest.mark.parametrize(
    ("item", "param", "code"),
    [
        ({"type": "web_search_call"}, "input[0].type", "unsupported_parameter"),
        ({"type": "item_reference", "id": "x"}, "input[0].type", "unsupported_parameter"),
        ({"type": 7}, "input[0].type", "unsupported_parameter"),
        ({"role": "tool", "content": ""}, "input[0].role", "invalid_type"),
        ({"role": "user"}, "input[0].content", "missing_required_parameter"),
        ({"role": "user", "content": "", "x": 1}, "input[0].x", "unknown_parameter"),
        ({"role": "user", "content": [{"type": "input_image"}]}, "input[0].content[0]",
         "unsupported_parameter"),
        ({"role": "user", "content": [{"type": "input_text"}]}, "input[0].content[0].text",
         "invalid_value"),
        ({"type": "function_call", "call_id": "c", "name": "f"}, "input[0].arguments",
         "missing_required_parameter"),
    ],
)  # fmt: skip
def test_a_bad_item_is_named(item: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        stored_items([item])
    assert (refused.value.param, refused.value.code) == (param, code)


def test_a_request_is_the_chat_that_it_asks_for() -> None:
    body = decode(
        json.dumps(
            {
                "model": "m", "input": "Hi", "instructions": "Be brief.", "max_output_tokens": 9,
                "temperature": 0.5, "reasoning": {"effort": "low"},
                "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}}],
                "tool_choice": {"type": "function", "name": "f"},
                "text": {"format": {"type": "json_schema", "name": "n", "schema": {}}},
                "include": ["message.output_text.logprobs"],
            }
        ).encode()
    )  # fmt: skip
    chat = chat_request(body, stored_items(body.input))
    assert [(each.role, each.content) for each in chat.messages] == [
        ("system", "Be brief."), ("user", "Hi")
    ]  # fmt: skip
    assert (chat.max_completion_tokens, chat.temperature, chat.logprobs) == (9, 0.5, True)
    assert chat.reasoning_effort == "low"
    assert chat.tools is not None and chat.tools[0].function is not None
    assert chat.tool_choice == {"type": "function", "function": {"name": "f"}}
    assert chat.response_format is not None and chat.response_format.json_schema is not None
    assert renamed("tools[0].function.parameters") == "tools[0].parameters"
    assert renamed("response_format.json_schema.schema") == "text.format.schema"
