"""The body of a response as clients send it.

Values that choose tokens have no bounds here: they become a ``ChatRequest``'s, which has them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from api.chat_completions.tools import MOST_TOOLS
from api.chat_completions.wire import MOST_MESSAGES
from api.parameters import Metadata

MOST_ITEMS = MOST_MESSAGES
Identifier = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
# Of OpenAI's, those for which something can be included; the others are of hosted tools.
LOGPROBS = "message.output_text.logprobs"
Include = Literal["message.output_text.logprobs", "reasoning.encrypted_content"]


class TextFormat(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    schema: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None


class TextConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: TextFormat | None = None
    verbosity: str | None = None


class Reasoning(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    effort: str | None = None
    # There are no summaries: an item of reasoning holds all of it. "auto" may be none.
    summary: Literal["auto"] | None = None
    # Known, and refused by name.
    generate_summary: str | None = None
    context: str | None = None
    mode: str | None = None


class FunctionTool(msgspec.Struct, frozen=True):
    """Also of other types, which are refused by name: so unknown fields are let in."""

    type: str
    name: str | None = None
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class StreamOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    include_obfuscation: bool | None = None  # accepted; events have no padding here


class PromptFields(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a prompt is made of."""

    model: Annotated[str, Meta(min_length=1, max_length=200)]
    input: str | Annotated[list[dict[str, Any]], Meta(min_length=1, max_length=MOST_ITEMS)]
    instructions: str | None = None
    previous_response_id: Identifier | None = None
    tools: Annotated[list[FunctionTool], Meta(max_length=MOST_TOOLS)] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    reasoning: Reasoning | None = None
    text: TextConfig | None = None
    truncation: Literal["auto", "disabled"] | None = None
    chat_template_kwargs: dict[str, Any] | None = None  # vLLM's
    # Known, and refused by name.
    conversation: Any = None
    prompt: Any = None


class ResponseRequest(PromptFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    store: bool | None = None
    include: list[Include] | None = None
    max_output_tokens: int | None = None
    # Of hosted tools, of which there are none: accepted, it changes nothing.
    max_tool_calls: Annotated[int, Meta(ge=1)] | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_logprobs: int | None = None
    service_tier: str | None = None
    metadata: Metadata | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    # vLLM's.
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    min_tokens: int | None = None
    ignore_eos: bool | None = None
    include_reasoning: bool | None = None
    background: bool | None = None
    # Known, and refused by name.
    context_management: Any = None
    moderation: Any = None
    access_programs: Any = None
    image: Any = None
    prompt_cache_options: Any = None


class TokenCountRequest(PromptFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``personality`` is known, and refused by name."""

    personality: Any = None


# Named as a chat names them, and handed on to one.
HANDED_ON = (
    "temperature", "top_p", "service_tier", "user", "safety_identifier", "prompt_cache_key",
    "prompt_cache_retention", "top_k", "min_p", "seed", "stop", "presence_penalty",
    "frequency_penalty", "repetition_penalty", "min_tokens", "ignore_eos", "include_reasoning",
    "stream", "metadata",
)  # fmt: skip

decode = msgspec.json.Decoder(ResponseRequest).decode
decode_count = msgspec.json.Decoder(TokenCountRequest).decode
