"""What of a chat request, beside its messages, the model's template is told."""

from __future__ import annotations

from typing import Any

import msgspec

from api.chat_completions.wire import ChatRequest
from inference.errors import InvalidRequest

MOST_TEMPLATE_KWARGS_BYTES = 16 * 1024
MOST_DOCUMENTS_BYTES = 1024 * 1024


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
    _check_size(body.chat_template_kwargs, MOST_TEMPLATE_KWARGS_BYTES, "chat_template_kwargs")
    _check_size(body.documents, MOST_DOCUMENTS_BYTES, "documents")
    return variables


def _check_size(value: Any, most: int, field: str) -> None:
    if not value:
        return
    try:
        size = len(msgspec.msgpack.encode(value))
    except (OverflowError, RecursionError) as error:
        raise InvalidRequest(
            "It has an integer of more than 64 bits, or too many levels.", param=field
        ) from error
    if size > most:
        raise InvalidRequest(f"It has at most {most} bytes.", param=field)
