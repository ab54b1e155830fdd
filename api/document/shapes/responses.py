"""Responses: the object, its items, and the events of a stream."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET, UnsetType

from api.document.shapes import ServiceTier, Shape
from api.document.shapes.chat import ContentLogprob, Place, ReasoningTokens, Tokens

ItemStatus = Literal["in_progress", "completed", "incomplete"]
Status = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]


class InputText(Shape, frozen=True, tag_field="type", tag="input_text"):
    text: str


class OutputText(Shape, frozen=True, tag_field="type", tag="output_text"):
    text: str
    annotations: list[Any]
    logprobs: list[ContentLogprob]


class ReasoningPart(Shape, frozen=True, tag_field="type", tag="reasoning_text"):
    text: str


class SummaryPart(Shape, frozen=True, tag_field="type", tag="summary_text"):
    text: str


class MessageItemObject(Shape, frozen=True, tag_field="type", tag="message"):
    id: str
    role: Literal["user", "assistant", "system", "developer"]
    status: ItemStatus
    content: list[InputText | OutputText]


class ReasoningItemObject(Shape, frozen=True, tag_field="type", tag="reasoning"):
    id: str
    status: ItemStatus
    summary: list[SummaryPart]
    content: list[ReasoningPart]


class FunctionCallObject(Shape, frozen=True, tag_field="type", tag="function_call"):
    id: str
    status: ItemStatus
    name: str
    call_id: str
    arguments: str


class FunctionCallOutputObject(Shape, frozen=True, tag_field="type", tag="function_call_output"):
    id: str
    status: ItemStatus
    call_id: str
    output: str


OutputItem = MessageItemObject | ReasoningItemObject | FunctionCallObject
InputItem = OutputItem | FunctionCallOutputObject


class InputItemPage(Shape, frozen=True):
    object: Literal["list"]
    data: list[InputItem]
    first_id: str | None
    last_id: str | None
    has_more: bool


class CacheDetails(Shape, frozen=True):
    cached_tokens: Tokens
    cache_write_tokens: Tokens


class ResponseUsage(Shape, frozen=True):
    input_tokens: Tokens
    input_tokens_details: CacheDetails
    output_tokens: Tokens
    output_tokens_details: ReasoningTokens
    total_tokens: Tokens


class ResponseError(Shape, frozen=True):
    code: Literal["server_error", "invalid_prompt", "rate_limit_exceeded"]
    message: str


class IncompleteDetails(Shape, frozen=True):
    reason: Literal["max_output_tokens", "content_filter"]


class ResponseReasoning(Shape, frozen=True):
    effort: str | None
    summary: None


class ResponseObject(Shape, frozen=True):
    id: str
    object: Literal["response"]
    created_at: int
    status: Status
    background: bool
    completed_at: int | None
    error: ResponseError | None
    incomplete_details: IncompleteDetails | None
    instructions: str | None
    max_output_tokens: int | None
    max_tool_calls: int | None
    model: str
    output: list[OutputItem]
    parallel_tool_calls: bool
    previous_response_id: str | None
    prompt_cache_key: str | None
    reasoning: ResponseReasoning
    safety_identifier: str | None
    service_tier: ServiceTier
    store: bool
    temperature: float
    text: dict[str, Any]
    tool_choice: str | dict[str, Any]
    tools: list[dict[str, Any]]
    top_logprobs: Tokens
    top_p: float
    truncation: Literal["auto", "disabled"]
    usage: ResponseUsage | None
    user: str | None
    metadata: dict[str, str]


class DeletedResponse(Shape, frozen=True):
    id: str
    object: Literal["response"]
    deleted: Literal[True]


class ResponseInputTokens(Shape, frozen=True):
    object: Literal["response.input_tokens"]
    input_tokens: Tokens


# --- Events -----------------------------------------------------------------------------------


class Event(Shape, frozen=True):
    sequence_number: Place


class WholeEvent(Event, frozen=True):
    type: Literal[
        "response.created", "response.queued", "response.in_progress", "response.completed",
        "response.incomplete", "response.failed",
    ]  # fmt: skip
    response: ResponseObject


class ItemEvent(Event, frozen=True):
    type: Literal["response.output_item.added", "response.output_item.done"]
    output_index: Place
    item: OutputItem


class OfItem(Event, frozen=True):
    item_id: str
    output_index: Place


class PartEvent(OfItem, frozen=True):
    type: Literal["response.content_part.added", "response.content_part.done"]
    content_index: Place
    part: OutputText | ReasoningPart


class TextDeltaEvent(OfItem, frozen=True):
    type: Literal["response.output_text.delta"]
    content_index: Place
    delta: str
    logprobs: list[ContentLogprob]


class TextDoneEvent(OfItem, frozen=True):
    type: Literal["response.output_text.done"]
    content_index: Place
    text: str
    logprobs: list[ContentLogprob]


class ReasoningEvent(OfItem, frozen=True):
    """``delta`` of a part, ``text`` of the whole."""

    type: Literal["response.reasoning_text.delta", "response.reasoning_text.done"]
    content_index: Place
    delta: str | UnsetType = UNSET
    text: str | UnsetType = UNSET


class CallDeltaEvent(OfItem, frozen=True):
    type: Literal["response.function_call_arguments.delta"]
    delta: str


class CallDoneEvent(OfItem, frozen=True):
    type: Literal["response.function_call_arguments.done"]
    arguments: str
    name: str


EVENTS = (
    WholeEvent, ItemEvent, PartEvent, TextDeltaEvent, TextDoneEvent, ReasoningEvent,
    CallDeltaEvent, CallDoneEvent,
)  # fmt: skip
