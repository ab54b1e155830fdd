"""Bodies of Anthropic's Messages API; a field that is null is the same as absent."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from api.chat_completions.tools import MOST_TOOLS
from api.chat_completions.wire import MOST_MESSAGES
from api.parameters import MOST_STOP_CHARACTERS, MOST_STOPS

MOST_BLOCKS = 1_024  # of one message
LEAST_THINKING_TOKENS = 1_024
Name = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_-]{1,128}$")]
Anything = dict[str, Any]


class Block(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A content block of any type; ``conversation`` says which fields a type needs."""

    type: str
    text: str | None = None
    id: str | None = None
    name: str | None = None
    input: Anything | None = None
    tool_use_id: str | None = None
    content: str | list[Any] | None = None
    is_error: bool | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    # Accepted: prefixes are cached without being told to, and answers come back with these.
    cache_control: Anything | None = None
    citations: Any = None
    caller: Anything | None = None
    toolset_name: str | None = None
    # Of what a text model cannot look at.
    source: Any = None
    title: Any = None
    context: Any = None


Blocks = Annotated[list[Block], Meta(max_length=MOST_BLOCKS)]


class InputMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    role: Literal["user", "assistant", "system"]
    content: str | Blocks


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """``type`` is null or ``custom``; Anthropic's own tools, of other fields, are refused."""

    name: Name
    type: str | None = None
    description: str | None = None
    input_schema: Anything | None = None
    strict: bool | None = None


class ToolChoice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    type: Literal["auto", "any", "tool", "none"]
    name: Name | None = None
    disable_parallel_tool_use: bool | None = None


class Thinking(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: Annotated[int, Meta(ge=LEAST_THINKING_TOKENS, le=2**31 - 1)] | None = None
    display: Literal["summarized", "omitted"] | None = None


class OutputFormat(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    type: Literal["json_schema"]
    schema: Anything


class OutputConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: OutputFormat | None = None


class RequestMetadata(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    user_id: Annotated[str, Meta(max_length=512)] | None = None


class CountRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What makes the prompt."""

    model: Annotated[str, Meta(min_length=1, max_length=200)]
    messages: Annotated[list[InputMessage], Meta(min_length=1, max_length=MOST_MESSAGES)]
    system: str | Blocks | None = None
    tools: Annotated[list[Tool], Meta(max_length=MOST_TOOLS)] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    cache_control: Anything | None = None
    # Known, and refused by name.
    mcp_servers: Any = None
    context_management: Any = None
    container: Any = None
    speed: str | None = None


class MessagesRequest(CountRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    max_tokens: Annotated[int, Meta(ge=1, le=2**31 - 1)]
    stream: bool | None = None
    stop_sequences: (
        Annotated[
            list[Annotated[str, Meta(min_length=1, max_length=MOST_STOP_CHARACTERS)]],
            Meta(max_length=MOST_STOPS),
        ]
        | None
    ) = None
    temperature: Annotated[float, Meta(ge=0.0, le=2.0)] | None = None
    top_p: Annotated[float, Meta(gt=0.0, le=1.0)] | None = None
    top_k: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None
    metadata: RequestMetadata | None = None
    service_tier: Literal["auto", "standard_only"] | None = None
    # Known, and refused by name.
    inference_geo: str | None = None
    diagnostics: Any = None
    user_profile_id: str | None = None


decode = msgspec.json.Decoder(MessagesRequest).decode
decode_count = msgspec.json.Decoder(CountRequest).decode
