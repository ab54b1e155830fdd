"""Chat completions and text completions, whole and as chunks."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from api.chat_completions.messages import Message
from api.document.shapes import ServiceTier, Shape

Place = Annotated[int, Meta(ge=0)]
Tokens = Annotated[int, Meta(ge=0)]
FinishReason = Literal["stop", "length", "tool_calls"]


class CachedTokens(Shape, frozen=True):
    cached_tokens: Tokens


class ReasoningTokens(Shape, frozen=True):
    reasoning_tokens: Tokens


class Usage(Shape, frozen=True):
    """What is billed by: the model's own tokenizer's count."""

    prompt_tokens: Tokens
    completion_tokens: Tokens
    total_tokens: Tokens
    prompt_tokens_details: CachedTokens
    completion_tokens_details: ReasoningTokens


class TokenLogprob(Shape, frozen=True):
    token: str
    logprob: float
    bytes: list[int]


class ContentLogprob(TokenLogprob, frozen=True):
    top_logprobs: list[TokenLogprob]


class ChatLogprobs(Shape, frozen=True):
    content: list[ContentLogprob]
    refusal: None


class CalledFunction(Shape, frozen=True):
    name: str
    arguments: str


class ToolCall(Shape, frozen=True):
    id: str
    type: Literal["function"]
    function: CalledFunction


class ChatMessage(Shape, frozen=True):
    role: Literal["assistant"]
    content: str | None
    refusal: None
    reasoning: str | UnsetType = UNSET
    tool_calls: list[ToolCall] | UnsetType = UNSET


class ChatChoice(Shape, frozen=True):
    index: Place
    message: ChatMessage
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason


class ChatCompletion(Shape, frozen=True):
    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    service_tier: ServiceTier
    system_fingerprint: str | None
    # Whether it was kept, if that was asked; kept ones have their metadata.
    store: bool | UnsetType = UNSET
    metadata: dict[str, str] | UnsetType = UNSET


class FunctionDelta(Shape, frozen=True):
    arguments: str
    name: str | UnsetType = UNSET


class ToolCallDelta(Shape, frozen=True):
    index: Place
    function: FunctionDelta
    id: str | UnsetType = UNSET
    type: Literal["function"] | UnsetType = UNSET


class ChatDelta(Shape, frozen=True):
    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType = UNSET
    reasoning: str | UnsetType = UNSET
    tool_calls: list[ToolCallDelta] | UnsetType = UNSET


class ChatChunkChoice(Shape, frozen=True):
    index: Place
    delta: ChatDelta
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason | None


class ChatCompletionChunk(Shape, frozen=True):
    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    service_tier: ServiceTier
    system_fingerprint: str | None
    choices: list[ChatChunkChoice]
    usage: Usage | UnsetType | None = UNSET


class KeptMessage(Message, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A message that the completion answered, with an id for paging."""

    id: str


class DeletedCompletion(Shape, frozen=True):
    id: str
    object: Literal["chat.completion.deleted"]
    deleted: Literal[True]


# --- Text completions -------------------------------------------------------------------------


class CompletionLogprobs(Shape, frozen=True):
    """Parallel lists, with each token's offset in the text."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[Place]


class CompletionChoice(Shape, frozen=True):
    index: Place
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: Literal["stop", "length"] | None


class Completion(Shape, frozen=True):
    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage
    system_fingerprint: str | None
    service_tier: ServiceTier | UnsetType = UNSET


class CompletionChunk(Shape, frozen=True):
    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: str | None
    choices: list[CompletionChoice]
    usage: Usage | UnsetType | None = UNSET
