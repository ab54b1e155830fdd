"""Anthropic's messages: whole, and the events of a stream."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET, UnsetType

from api.document.shapes import Shape
from api.document.shapes.chat import Place, Tokens

StopReason = Literal[
    "end_turn", "max_tokens", "stop_sequence", "tool_use", "model_context_window_exceeded"
]


class TextBlock(Shape, frozen=True, tag_field="type", tag="text"):
    text: str
    citations: None


class ThinkingBlock(Shape, frozen=True, tag_field="type", tag="thinking"):
    thinking: str
    signature: str


class ToolUseBlock(Shape, frozen=True, tag_field="type", tag="tool_use"):
    id: str
    name: str
    input: dict[str, Any]


ContentBlock = TextBlock | ThinkingBlock | ToolUseBlock


class ThinkingTokens(Shape, frozen=True):
    thinking_tokens: Tokens


class MessageUsage(Shape, frozen=True):
    input_tokens: Tokens
    cache_creation_input_tokens: Tokens
    cache_read_input_tokens: Tokens
    output_tokens: Tokens
    output_tokens_details: ThinkingTokens
    service_tier: Literal["standard", "priority", "batch"] | UnsetType = UNSET


class MessageAnswer(Shape, frozen=True):
    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[ContentBlock]
    stop_reason: StopReason | None
    stop_sequence: str | None
    container: None
    usage: MessageUsage


class InputTokens(Shape, frozen=True):
    input_tokens: Tokens


# --- Events -----------------------------------------------------------------------------------


class MessageStart(Shape, frozen=True):
    type: Literal["message_start"]
    message: MessageAnswer


class Ping(Shape, frozen=True):
    type: Literal["ping"]


class BlockStart(Shape, frozen=True):
    type: Literal["content_block_start"]
    index: Place
    content_block: ContentBlock


class TextDelta(Shape, frozen=True, tag_field="type", tag="text_delta"):
    text: str


class ThinkingDelta(Shape, frozen=True, tag_field="type", tag="thinking_delta"):
    thinking: str


class SignatureDelta(Shape, frozen=True, tag_field="type", tag="signature_delta"):
    signature: str


class InputDelta(Shape, frozen=True, tag_field="type", tag="input_json_delta"):
    partial_json: str


class BlockDelta(Shape, frozen=True):
    type: Literal["content_block_delta"]
    index: Place
    delta: TextDelta | ThinkingDelta | SignatureDelta | InputDelta


class BlockStop(Shape, frozen=True):
    type: Literal["content_block_stop"]
    index: Place


class StopDelta(Shape, frozen=True):
    stop_reason: StopReason
    stop_sequence: str | None


class MessageDelta(Shape, frozen=True):
    type: Literal["message_delta"]
    delta: StopDelta
    usage: MessageUsage


class MessageStop(Shape, frozen=True):
    type: Literal["message_stop"]


class AnthropicErrorFields(Shape, frozen=True):
    type: Literal[
        "invalid_request_error", "authentication_error", "billing_error", "permission_error",
        "not_found_error", "request_too_large", "rate_limit_error", "timeout_error",
        "overloaded_error", "api_error",
    ]  # fmt: skip
    message: str


class AnthropicError(Shape, frozen=True):
    type: Literal["error"]
    error: AnthropicErrorFields
    request_id: str


EVENTS = (
    MessageStart, Ping, BlockStart, BlockDelta, BlockStop, MessageDelta, MessageStop,
    AnthropicError,
)  # fmt: skip
