"""What of a chat request, beside its messages, the model's template is told."""

from __future__ import annotations

from typing import Any

import msgspec

from api.chat_completions.wire import ChatRequest
from inference.errors import InvalidRequest

MOST_TEMPLATE_KWARGS_BYTES = 16 * 1024


def prompt_options(body: ChatRequest, tools: list[dict[str, Any]]) -> dict[str, Any]:
    """Options of ``PromptRenderer.encode_chat``; none for the plain request."""
    options: dict[str, Any] = {}
    if tools:
        options["tools"] = tools
    if body.add_special_tokens:
        options["add_special_tokens"] = True
    if body.continue_final_message:
        if body.add_generation_prompt:
            raise InvalidRequest(
                "An answer either continues the last message or begins a new one.",
                param="continue_final_message",
            )
        options["continue_final_message"] = True
    elif body.add_generation_prompt is False:
        options["add_generation_prompt"] = False
    if variables := template_variables(body):
        options["variables"] = variables
    return options


def template_variables(body: ChatRequest) -> dict[str, Any]:
    """As vLLM's server names them to templates, and to parsers."""
    variables = dict(body.chat_template_kwargs or {})
    if body.documents is not None:
        variables["documents"] = body.documents
    if body.reasoning_effort is not None:
        variables["reasoning_effort"] = body.reasoning_effort
        variables.setdefault("enable_thinking", body.reasoning_effort != "none")
    kwargs = body.chat_template_kwargs
    if kwargs and len(msgspec.json.encode(kwargs)) > MOST_TEMPLATE_KWARGS_BYTES:
        raise InvalidRequest(
            f"It has at most {MOST_TEMPLATE_KWARGS_BYTES} bytes.", param="chat_template_kwargs"
        )
    return variables
