"""Messages and tools: their forms, what a template is given, and which field an error names."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from api.chat_completions.messages import screened_text, template_messages
from api.chat_completions.prompting import prompt_options
from api.chat_completions.tools import choice_of, parsing_of, tools_of
from api.chat_completions.wire import ChatRequest, decode
from inference.errors import InvalidRequest

USER = {"role": "user", "content": "Hi"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}


def request(*messages: Any, **fields: Any) -> ChatRequest:
    body = {"model": "m", "messages": list(messages) or [USER], **fields}
    return decode(msgspec.json.encode(body))


def rendered(*messages: Any) -> list[dict[str, Any]]:
    return template_messages(request(*messages).messages)


def test_each_form_of_a_message_is_what_vllm_gives_a_template() -> None:
    made = rendered(
        {"role": "developer", "content": "Be brief", "name": "ops"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"text": "b"}]},
        {"role": "assistant", "content": None, "tool_calls": [CALL], "reasoning": "hm"},
        {"role": "tool", "tool_call_id": "c1", "content": "42"},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
        {"role": "assistant", "refusal": "Never.", "annotations": [], "audio": None},
    )
    assert made == [
        {"role": "developer", "content": "Be brief", "name": "ops"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [CALL],
            "reasoning": "hm",
            "reasoning_content": "hm",
        },
        {"role": "tool", "content": "42", "tool_call_id": "c1"},
        {"role": "assistant", "content": [{"type": "text", "text": "No."}]},
        {"role": "assistant", "content": "Never."},
    ]
    # Nothing that a client wrote escapes screening.
    text = screened_text(made)
    assert all(part in text for part in ("Be brief", "a", "b", "hm", '{"a": 1}', "42", "No."))


@pytest.mark.parametrize(
    ("message", "param", "code"),
    [
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]},
            "messages[0].content[0]",
            "unsupported_parameter",
        ),
        (
            {"role": "user", "content": [{"type": "text"}]},
            "messages[0].content[0].text",
            "missing_required_parameter",
        ),
        (
            {"role": "user", "content": [{"type": "smell", "text": "x"}]},
            "messages[0].content[0].type",
            "invalid_value",
        ),
        ({"role": "assistant"}, "messages[0].content", "invalid_value"),
        (
            {"role": "tool", "content": "x"},
            "messages[0].tool_call_id",
            "missing_required_parameter",
        ),
        (
            {"role": "function", "content": "x", "name": "f"},
            "messages[0].role",
            "unsupported_parameter",
        ),
        (
            {"role": "assistant", "tool_calls": [{"id": "a", "type": "custom"}]},
            "messages[0].tool_calls[0].type",
            "unsupported_parameter",
        ),
    ],
)
def test_a_message_that_a_text_model_cannot_read_is_named(
    message: dict[str, Any], param: str, code: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        rendered(message)
    assert (refused.value.param, refused.value.code) == (param, code)


def test_tools_are_what_vllm_gives_a_template() -> None:
    strict = {"type": "function", "function": {"name": "g", "strict": True}}
    assert tools_of(request(tools=[TOOL, strict]).tools) == [
        {
            "type": "function",
            "function": {"name": "f", "description": None, "parameters": {"type": "object"}},
        },
        {
            "type": "function",
            "function": {"name": "g", "description": None, "parameters": None, "strict": True},
        },
    ]


@pytest.mark.parametrize(
    ("tools", "param"),
    [
        ([{"type": "function"}], "tools[0].function"),
        ([{"type": "custom", "custom": {"name": "x"}}], "tools[0].type"),
        (
            [{"type": "function", "function": {"name": "f", "parameters": {"not": {"pattern": ""}}}}],
            "tools[0].function.parameters",
        ),
        ([TOOL, {"type": "function", "function": {"name": "g" * 60, "description": "x" * 270_000}}],
         "tools"),
    ],
)  # fmt: skip
def test_a_tool_that_cannot_be_served_is_named(tools: list[Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        tools_of(request(tools=tools).tools)
    assert refused.value.param == param


def test_the_choice_of_a_tool() -> None:
    tools = tools_of(request(tools=[TOOL]).tools)
    named = {"type": "function", "function": {"name": "f"}}
    assert choice_of(None, []) == ("none", "")
    assert choice_of(None, tools) == ("auto", "")
    assert choice_of("required", tools) == ("required", "")
    assert choice_of(named, tools) == ("named", "f")


@pytest.mark.parametrize(
    ("choice", "tools", "param"),
    [
        ("auto", [], "tool_choice"),
        ("sometimes", [TOOL], "tool_choice"),
        ({"type": "allowed_tools"}, [TOOL], "tool_choice.type"),
        ({"type": "function"}, [TOOL], "tool_choice.function"),
        (
            {"type": "function", "function": {"name": "g"}},
            [TOOL],
            "tool_choice.function.name",
        ),
    ],
)
def test_a_choice_that_cannot_be_is_named(choice: Any, tools: list[Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        choice_of(choice, tools)
    assert refused.value.param == param


def parsing(tool_parser: str, reasoning_parser: str, tools: list[Any], choice: str) -> Any:
    served: Any = SimpleNamespace(tool_parser=tool_parser, reasoning_parser=reasoning_parser)
    return parsing_of(
        served,
        tools,
        (choice, ""),
        parallel_tool_calls=True,
        include_reasoning=True,
        template_kwargs={},
        is_streamed=False,
        past_tool_calls=0,
    )


def test_only_an_answer_with_something_to_find_is_taken_apart() -> None:
    assert parsing("hermes", "", [], "none") is None
    assert parsing("", "", [TOOL], "none") is None
    assert parsing("", "qwen3", [], "none") is not None
    assert not parsing("hermes", "", [TOOL], "auto").may_constrain
    assert parsing("hermes", "", [TOOL], "required").may_constrain
    strict = {"type": "function", "function": {"name": "g", "strict": True}}
    assert parsing("hermes", "", [strict], "auto").may_constrain
    with pytest.raises(InvalidRequest) as refused:
        parsing("", "", [TOOL], "required")
    assert (refused.value.param, refused.value.code) == ("tools", "unsupported_parameter")


def test_what_a_template_is_told() -> None:
    assert prompt_options(request(), []) == {}
    options = prompt_options(
        request(
            chat_template_kwargs={"style": "short"},
            documents=[{"title": "a"}],
            reasoning_effort="low",
            continue_final_message=True,
        ),
        [TOOL],
    )
    assert options == {
        "tools": [TOOL],
        "continue_final_message": True,
        "variables": {
            "style": "short",
            "documents": [{"title": "a"}],
            "reasoning_effort": "low",
            "enable_thinking": True,
        },
    }
    with pytest.raises(InvalidRequest) as refused:
        prompt_options(request(continue_final_message=True, add_generation_prompt=True), [])
    assert refused.value.param == "continue_final_message"
    for kwargs in ({"a": "x" * 17_000}, {"a": [2**64]}):
        with pytest.raises(InvalidRequest) as refused:
            prompt_options(request(chat_template_kwargs=kwargs), [])
        assert refused.value.param == "chat_template_kwargs"
