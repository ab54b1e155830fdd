"""Anthropic's messages without a server: what becomes of a conversation, and of an answer."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from anthropic.types import Message, RawMessageStreamEvent
from pydantic import TypeAdapter

from api import sse
from api.chat_completions.messages import template_messages
from api.choices import Choice
from api.errors import api_error
from api.messages import dialect, wire
from api.messages.answers import EventWriter, content_of, stop_of, usage_of
from api.messages.conversation import chat_request
from inference.dispatch import Output
from inference.errors import InvalidRequest, NoReplica
from inference.wire import MessagePart, ToolCallPart
from tenants.errors import InvalidApiKey, LimitExceeded

BODY = {"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": "Hello"}]}
TOOL = {"name": "get_weather", "description": "Of a city.", "input_schema": {"type": "object"}}


def converted(**fields: Any) -> Any:
    return chat_request(wire.decode(json.dumps({**BODY, **fields}).encode()))


def templated(**fields: Any) -> list[dict[str, Any]]:
    return template_messages(converted(**fields).messages)


def refused(**fields: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        converted(**fields)
    return caught.value


# --- Requests -----------------------------------------------------------------------------------


def test_a_conversation_with_tools_is_a_chat_with_the_same_turns() -> None:
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "Paris?", "cache_control": {}}]},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Ask.", "signature": "s"},
                {"type": "redacted_thinking", "data": "x"},
                {"type": "text", "text": "One moment."},
                {"type": "tool_use", "id": "a", "name": "get_weather", "input": {"city": "Paris"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "a",
                    "content": [{"type": "text", "text": "Rain"}, {"type": "text", "text": "12°"}],
                },
                {"type": "tool_result", "tool_use_id": "b", "is_error": True},
                {"type": "text", "text": "And Rome?"},
            ],
        },
    ]
    system = [{"type": "text", "text": "Be brief."}]
    assert templated(system=system, messages=messages, tools=[TOOL]) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Paris?"},
        {
            "role": "assistant",
            "content": "One moment.",
            "tool_calls": [
                {
                    "id": "a",
                    "type": "function",
                    "function": {"name": "get_weather", "arguments": {"city": "Paris"}},
                }
            ],
            "reasoning": "Ask.",
            "reasoning_content": "Ask.",
        },
        {"role": "tool", "content": "Rain\n12°", "tool_call_id": "a"},
        {"role": "tool", "content": "", "tool_call_id": "b"},
        {"role": "user", "content": "And Rome?"},
    ]


@pytest.mark.parametrize(
    ("choice", "expected", "parallel"),
    [
        (None, None, True),
        ({"type": "auto", "disable_parallel_tool_use": True}, "auto", False),
        ({"type": "any"}, "required", True),
        ({"type": "none"}, "none", True),
        (
            {"type": "tool", "name": "get_weather"},
            {"type": "function", "function": {"name": "get_weather"}},
            True,
        ),
    ],
)
def test_tool_choices(choice: Any, expected: Any, parallel: bool) -> None:
    made = converted(tools=[TOOL], tool_choice=choice)
    assert (made.tool_choice, made.parallel_tool_calls) == (expected, parallel)
    function = made.tools[0].function
    assert (function.name, function.parameters) == ("get_weather", {"type": "object"})


def test_what_is_sampled_is_said_in_a_chats_words() -> None:
    made = converted(
        stop_sequences=["END"],
        temperature=0.5,
        top_p=0.9,
        top_k=7,
        metadata={"user_id": "u"},
        service_tier="standard_only",
        thinking={"type": "disabled"},
        output_config={"effort": "low", "format": {"type": "json_schema", "schema": {}}},
    )
    assert (made.stop, made.temperature, made.top_p, made.top_k) == (["END"], 0.5, 0.9, 7)
    assert (made.user, made.service_tier, made.max_tokens) == ("u", "default", 100)
    assert made.chat_template_kwargs == {"enable_thinking": False}
    assert made.reasoning_effort == "low"
    assert made.response_format.json_schema.schema == {}


def test_an_assistants_last_turn_is_continued() -> None:
    last = {"role": "assistant", "content": "The answer is ("}
    assert converted(messages=[*BODY["messages"], last]).continue_final_message  # type: ignore[misc]
    assert not converted().continue_final_message


def turn(*blocks: dict[str, Any], role: str = "user") -> dict[str, Any]:
    return {"messages": [{"role": role, "content": list(blocks)}]}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        (turn({"type": "image", "source": {}}), "messages[0].content[0]"),
        (turn({"type": "document", "source": {}}), "messages[0].content[0]"),
        (turn({"type": "text"}), "messages[0].content[0].text"),
        (turn({"type": "tool_result"}), "messages[0].content[0].tool_use_id"),
        (
            turn({"type": "tool_result", "tool_use_id": "a", "content": [{"type": "image"}]}),
            "messages[0].content[0].content[0]",
        ),
        (
            turn({"type": "tool_result", "tool_use_id": "a", "content": ["text"]}),
            "messages[0].content[0].content[0]",
        ),
        (turn({"type": "tool_use", "id": "a"}, role="assistant"), "messages[0].content[0].name"),
        (turn(), "messages[0].content"),
        (turn(role="assistant"), "messages[0].content"),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "tools[0].type"),
        ({"tools": [{"name": "a"}]}, "tools[0].input_schema"),
        ({"tools": [TOOL], "tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "thinking.budget_tokens"),
        ({"container": "c"}, "container"),
        ({"mcp_servers": [{}]}, "mcp_servers"),
        ({"speed": "fast"}, "speed"),
    ],
)
def test_what_a_text_model_cannot_do_is_refused_by_name(fields: Any, param: str) -> None:
    assert refused(**fields).param == param


@pytest.mark.parametrize(
    "fields",
    [
        {"max_tokens": 0},
        {"max_tokens": None},
        {"messages": []},
        {"messages": [{"role": "tool", "content": "x"}]},
        {"stop_sequences": [""]},
        {"stop_sequences": ["x"] * 17},
        {"temperature": 2.5},
        {"top_k": -1},
        {"tools": [{"name": "no spaces", "input_schema": {}}]},
        {"service_tier": "priority"},
        {"n": 2},
        {"metadata": {"user_id": "x" * 513}},
    ],
)
def test_out_of_range_is_refused_where_it_is_read(fields: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        wire.decode(json.dumps({**BODY, **fields}).encode())


# --- Answers ------------------------------------------------------------------------------------

_EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
MESSAGE = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [],
    "stop_reason": None, "stop_sequence": None,
}  # fmt: skip


def stream_of(outputs: list[Output], stop: tuple[str, str | None]) -> list[dict[str, Any]]:
    writer = EventWriter(MESSAGE)
    events = writer.begin(usage_of(10, 4, 0))
    for output in outputs:
        events += writer.output(output)
    events += writer.end(stop, usage_of(10, 4, 5, writer.reasoning_tokens))
    return [json.loads(event) for event in events]


def test_a_stream_has_a_block_for_each_thing_that_was_said() -> None:
    events = stream_of(
        [
            Output([1], "", message=MessagePart("Let me ")),
            Output([2], "", message=MessagePart("see.", reasoning_tokens=2)),
            Output([3], "It "),
            Output([4], "is"),
            Output([5], "", message=MessagePart("", [ToolCallPart(0, "a", "f", "")])),
            Output([6], "", message=MessagePart("", [ToolCallPart(0, "", "", '{"x":')])),
            Output([7], "", message=MessagePart("", [ToolCallPart(0, "", "", "1}")])),
            Output([8], "", message=MessagePart("", [ToolCallPart(1, "b", "g", "{}")])),
        ],
        ("tool_use", None),
    )
    for event in events:
        if event["type"] != "ping":  # the client's parser leaves it out
            _EVENT.validate_python(event)
    told = [
        (event["type"], event.get("index"), event.get("delta", {}).get("type")) for event in events
    ]
    assert told == [
        ("message_start", None, None),
        ("ping", None, None),
        ("content_block_start", 0, None),
        ("content_block_delta", 0, "thinking_delta"),
        ("content_block_delta", 0, "thinking_delta"),
        ("content_block_delta", 0, "signature_delta"),
        ("content_block_stop", 0, None),
        ("content_block_start", 1, None),
        ("content_block_delta", 1, "text_delta"),
        ("content_block_delta", 1, "text_delta"),
        ("content_block_stop", 1, None),
        ("content_block_start", 2, None),
        ("content_block_delta", 2, "input_json_delta"),
        ("content_block_delta", 2, "input_json_delta"),
        ("content_block_stop", 2, None),
        ("content_block_start", 3, None),
        ("content_block_delta", 3, "input_json_delta"),
        ("content_block_stop", 3, None),
        ("message_delta", None, None),
        ("message_stop", None, None),
    ]
    assert events[0]["message"]["usage"]["input_tokens"] == 6
    assert events[0]["message"]["usage"]["cache_read_input_tokens"] == 4
    assert events[-2]["delta"] == {"stop_reason": "tool_use", "stop_sequence": None}
    assert events[-2]["usage"]["output_tokens_details"] == {"thinking_tokens": 2}


def test_nothing_said_is_no_block() -> None:
    events = stream_of([Output([1], "")], ("end_turn", None))
    assert [event["type"] for event in events] == [
        "message_start", "ping", "message_delta", "message_stop",
    ]  # fmt: skip


def test_text_is_written_past_the_stream_while_a_text_block_is_open() -> None:
    sent: list[bytes] = []
    writer = EventWriter(MESSAGE, lambda part: not sent.append(part))  # type: ignore[func-returns-value]
    assert not writer.take("too early")
    by_stream = writer.output(Output([1], 'a "quoted"\n'))[-1]
    assert writer.take('a "quoted"\n')
    assert sent == [sse.event_frame(by_stream)]
    writer.output(Output([2], "", message=MessagePart("", [ToolCallPart(0, "a", "f")])))
    assert not writer.take("not text any more")


def test_a_whole_message_has_the_same_blocks() -> None:
    calls = [ToolCallPart(0, "a", "f", '{"x":'), ToolCallPart(0, "", "", "1}")]
    cut = ToolCallPart(1, "b", "g", '{"y')
    choice = Choice("It is", "stop", message=MessagePart("Let me see.", [*calls, cut]))
    content = content_of(choice)
    message = Message.model_validate(
        {**MESSAGE, "content": content, "usage": usage_of(10, 4, 5), "stop_reason": "tool_use"}
    )
    assert [block.type for block in message.content] == [
        "thinking", "text", "tool_use", "tool_use",
    ]  # fmt: skip
    assert [block["input"] for block in content[2:]] == [{"x": 1}, {}]


@pytest.mark.parametrize(
    ("reason", "matched", "called", "fills", "expected"),
    [
        ("stop", None, False, False, ("end_turn", None)),
        ("stop", 2, False, False, ("end_turn", None)),
        ("stop", "END", False, False, ("stop_sequence", "END")),
        ("stop", None, True, False, ("tool_use", None)),
        ("length", None, True, False, ("max_tokens", None)),
        ("length", None, False, True, ("model_context_window_exceeded", None)),
    ],
)
def test_stop_reasons(
    reason: str, matched: Any, called: bool, fills: bool, expected: tuple[str, str | None]
) -> None:
    assert stop_of(reason, matched, has_called=called, fills_context=fills) == expected


# --- Errors, credentials and limits -----------------------------------------------------------------


def quota() -> LimitExceeded:
    return LimitExceeded(
        "Spent.", limit="monthly_budget", subject="project", retry_after_s=None, headers=[]
    )


@pytest.mark.parametrize(
    ("error", "status", "kind", "message"),
    [
        (InvalidApiKey("No."), 401, "authentication_error", "No."),
        (
            InvalidRequest("Wrong.", param="tools[2].function.parameters"),
            400, "invalid_request_error", "tools.2.input_schema: Wrong.",
        ),
        (NoReplica("Away."), 529, "overloaded_error", "Away."),
        (quota(), 402, "billing_error", "Spent."),
    ],
)  # fmt: skip
def test_errors_are_anthropics(error: Any, status: int, kind: str, message: str) -> None:
    response = dialect.error_response(api_error(error), "r1")
    assert response.status == status
    assert json.loads(response.body) == {
        "type": "error",
        "error": {"type": kind, "message": message},
        "request_id": "r1",
    }
    assert (b"request-id", b"r1") in response.headers


def test_every_status_has_one_of_anthropics_types() -> None:
    kinds = {status: dialect.kind_of(status) for status in (400, 405, 408, 413, 415, 429, 500, 504)}
    assert kinds == {
        400: "invalid_request_error", 405: "invalid_request_error", 408: "invalid_request_error",
        413: "request_too_large", 415: "invalid_request_error", 429: "rate_limit_error",
        500: "api_error", 504: "timeout_error",
    }  # fmt: skip


def keys(*headers: tuple[bytes, bytes]) -> bytes | None:
    return dialect.authorization({"headers": list(headers)})


def test_one_key_by_one_header() -> None:
    assert keys((b"x-api-key", b"sk-1")) == b"Bearer sk-1"
    assert keys((b"authorization", b"Bearer sk-1")) == b"Bearer sk-1"
    assert keys((b"x-api-key", b"sk-1"), (b"authorization", b"Bearer sk-1")) == b"Bearer sk-1"
    assert keys() is None
    for two in (
        [(b"x-api-key", b"sk-1"), (b"x-api-key", b"sk-1")],
        [(b"x-api-key", b"sk-1"), (b"authorization", b"Bearer sk-2")],
    ):
        with pytest.raises(InvalidApiKey):
            keys(*two)


def test_limits_are_told_in_anthropics_names_too() -> None:
    told = dict(
        dialect.headers(
            [(b"x-ratelimit-limit-tokens", b"100"), (b"x-ratelimit-reset-requests", b"1h2m3.5s")],
            "r1",
        )
    )
    assert told[b"anthropic-ratelimit-tokens-limit"] == b"100"
    assert told[b"anthropic-ratelimit-requests-reset"].endswith(b"Z")
    assert told[b"x-ratelimit-limit-tokens"] == b"100"


@pytest.mark.parametrize(
    ("duration", "seconds"),
    [(b"250ms", 0.25), (b"1.5s", 1.5), (b"1m3s", 63), (b"2h0m1s", 7201), (b"0ms", 0)],
)
def test_resets_are_moments(
    duration: bytes, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialect.time, "time", lambda: 1_000_000.0)
    (_, _), (_, moment) = dialect.headers([(b"x-ratelimit-reset-tokens", duration)], "r")[1:]
    expected = dialect.datetime.fromtimestamp(1_000_000 + seconds, dialect.UTC)
    assert moment == expected.strftime("%Y-%m-%dT%H:%M:%SZ").encode()
