"""Embeddings, scores, tokens and models."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET, UnsetType

from api.document.shapes import ServiceTier, Shape
from api.document.shapes.chat import Place, Tokens

Scoring = Literal["cosine", "cross-encoder"]


class InputUsage(Shape, frozen=True):
    prompt_tokens: Tokens
    total_tokens: Tokens


class Embedding(Shape, frozen=True):
    """``embedding`` is base64 of little-endian float32 if that was asked."""

    object: Literal["embedding"]
    index: Place
    embedding: list[float] | str


class EmbeddingList(Shape, frozen=True):
    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: InputUsage
    service_tier: ServiceTier | UnsetType = UNSET


class Text(Shape, frozen=True):
    text: str


class RerankResult(Shape, frozen=True):
    index: Place
    relevance_score: float
    document: Text | UnsetType = UNSET


class Reranking(Shape, frozen=True):
    """The likest document first; ``meta`` in Cohere's form only."""

    id: str
    model: str
    scoring: Scoring
    results: list[RerankResult]
    usage: InputUsage
    service_tier: ServiceTier | UnsetType = UNSET
    meta: dict[str, Any] | UnsetType = UNSET


class Score(Shape, frozen=True):
    index: Place
    object: Literal["score"]
    score: float


class ScoreList(Shape, frozen=True):
    id: str
    object: Literal["list"]
    created: int
    model: str
    scoring: Scoring
    data: list[Score]
    usage: InputUsage
    service_tier: ServiceTier | UnsetType = UNSET


class TokenList(Shape, frozen=True):
    count: Tokens
    max_model_len: Tokens
    tokens: list[Place]
    token_strs: list[str] | None


class Detokenized(Shape, frozen=True):
    prompt: str


# --- Models -----------------------------------------------------------------------------------


class ModelObject(Shape, frozen=True):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    max_model_len: Tokens


class ModelList(Shape, frozen=True):
    object: Literal["list"]
    data: list[ModelObject]


class AnthropicModel(Shape, frozen=True):
    type: Literal["model"]
    id: str
    display_name: str
    created_at: str
    lifecycle: Literal["active"]
    max_input_tokens: Tokens
    max_tokens: Tokens


class AnthropicModelPage(Shape, frozen=True):
    data: list[AnthropicModel]
    has_more: bool
    first_id: str | None
    last_id: str | None
