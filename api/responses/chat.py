"""A response's request as the chat that it is, and a chat's errors in a response's words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from api.batches.wire import check_metadata
from api.chat_completions.wire import ChatRequest
from api.errors import malformed
from api.parameters import refuse
from api.responses.items import Item, chat_messages
from api.responses.wire import (
    HANDED_ON,
    LOGPROBS,
    FunctionTool,
    PromptFields,
    ResponseRequest,
    TextFormat,
    TokenCountRequest,
)
from inference.errors import InferenceError, InvalidRequest

# A chat's names of what responses call otherwise.
_RENAMED = (
    (re.compile(r"^messages\b.*"), "input"),
    (re.compile(r"^max_(completion_)?tokens$"), "max_output_tokens"),
    (re.compile(r"^response_format\.json_schema"), "text.format"),
    (re.compile(r"^response_format"), "text.format"),
    (re.compile(r"^verbosity$"), "text.verbosity"),
    (re.compile(r"^reasoning_effort$"), "reasoning.effort"),
    (re.compile(r"^(tools\[\d+\])\.function"), r"\1"),
    (re.compile(r"^tool_choice\.function"), "tool_choice"),
)


@contextmanager
def in_our_words() -> Iterator[None]:
    """Errors of the chat that is run name the fields of the response that asked for it."""
    try:
        yield
    except InferenceError as error:
        if error.param:
            chats, error.param = error.param, renamed(error.param)
            error.message = error.message.replace(f"'{chats}'", f"'{error.param}'")
        raise


def renamed(param: str) -> str:
    for pattern, name in _RENAMED:
        param = pattern.sub(name, param)
    return param


def check_supported(body: PromptFields) -> None:
    """Refuse, by name, what only hosted tools or OpenAI's own storage could serve."""
    refuse(conversation=body.conversation, prompt=body.prompt)
    if (reasoning := body.reasoning) is not None:
        refuse(
            **{
                "reasoning.generate_summary": reasoning.generate_summary,
                "reasoning.context": reasoning.context,
                "reasoning.mode": reasoning.mode,
            }
        )
    if isinstance(body, TokenCountRequest):
        refuse(personality=body.personality)
    if isinstance(body, ResponseRequest):
        check_metadata(body.metadata)
        refuse(
            context_management=body.context_management,
            moderation=body.moderation,
            access_programs=body.access_programs,
            image=body.image,
            prompt_cache_options=body.prompt_cache_options,
        )
        if body.stream_options is not None and not body.stream:
            raise InvalidRequest(
                "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
                param="stream_options",
            )


def chat_request(body: PromptFields, items: list[Item]) -> ChatRequest:
    """``items`` are the whole conversation's. The chat's own bounds hold for every value."""
    fields: dict[str, Any] = {
        "model": body.model,
        "messages": _instructions(body) + chat_messages(items),
        "tools": [_tool(index, tool) for index, tool in enumerate(body.tools or ())] or None,
        "tool_choice": _tool_choice(body.tool_choice) if body.tools else None,
        "parallel_tool_calls": body.parallel_tool_calls,
        "reasoning_effort": None if body.reasoning is None else body.reasoning.effort,
        "chat_template_kwargs": body.chat_template_kwargs,
    }
    if body.text is not None:
        fields["verbosity"] = body.text.verbosity
        fields["response_format"] = _response_format(body.text.format)
    if isinstance(body, ResponseRequest):
        fields |= {name: getattr(body, name) for name in HANDED_ON}
        fields["max_completion_tokens"] = body.max_output_tokens
        fields["top_logprobs"] = body.top_logprobs
        fields["logprobs"] = wants_logprobs(body) or None
    try:
        return msgspec.convert(fields, ChatRequest)
    except msgspec.ValidationError as error:
        raise malformed(error) from None


def wants_logprobs(body: ResponseRequest) -> bool:
    return LOGPROBS in (body.include or ()) or body.top_logprobs is not None


def _instructions(body: PromptFields) -> list[dict[str, Any]]:
    return [{"role": "system", "content": body.instructions}] if body.instructions else []


def _tool(index: int, tool: FunctionTool) -> dict[str, Any]:
    if tool.type != "function":
        refuse(**{f"tools[{index}].type": tool.type[:60]})
    if tool.name is None:
        field = f"tools[{index}].name"
        error = InvalidRequest(f"Missing required parameter: '{field}'.", param=field)
        error.code = "missing_required_parameter"
        raise error
    function = {
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
        "strict": tool.strict,
    }
    return {"type": "function", "function": function}


def _tool_choice(choice: str | dict[str, Any] | None) -> str | dict[str, Any] | None:
    if not isinstance(choice, dict) or choice.get("type") != "function":
        return choice
    return {"type": "function", "function": {"name": choice.get("name")}}


def _response_format(wanted: TextFormat | None) -> dict[str, Any] | None:
    if wanted is None or wanted.type != "json_schema":
        return None if wanted is None else {"type": wanted.type}
    if wanted.name is None or wanted.schema is None:
        field = "text.format.name" if wanted.name is None else "text.format.schema"
        error = InvalidRequest(f"Missing required parameter: '{field}'.", param=field)
        error.code = "missing_required_parameter"
        raise error
    schema = {
        "name": wanted.name,
        "schema": wanted.schema,
        "description": wanted.description,
        "strict": wanted.strict,
    }
    return {"type": "json_schema", "json_schema": schema}
