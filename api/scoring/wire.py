"""Bodies of rerank and score; a field that is null is the same as absent."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from inference.errors import InvalidRequest

MOST_DOCUMENTS = 1_000
Model = Annotated[str, Meta(min_length=1, max_length=200)]
Tokens = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Texts = str | list[Any]


class ScoringFields(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    model: Model
    max_tokens_per_doc: Tokens | None = None
    max_tokens_per_query: Tokens | None = None
    truncate_prompt_tokens: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    user: Annotated[str, Meta(max_length=512)] | None = None
    priority: Any = None
    service_tier: str | None = None
    # Known, and refused by name: they are of models that read both texts at once.
    instruction: Any = None
    chat_template_kwargs: Any = None
    use_activation: bool | None = None


class RerankRequest(ScoringFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    query: str
    documents: Annotated[list[Any], Meta(min_length=1, max_length=MOST_DOCUMENTS)]
    top_n: Annotated[int, Meta(ge=0)] | None = None
    return_documents: bool | None = None
    # Cohere's; without it every text must fit.
    rank_fields: Any = None
    max_chunks_per_doc: Any = None


class ScoreRequest(ScoringFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One pair of these, each a text or a list."""

    text_1: Texts | None = None
    text_2: Texts | None = None
    queries: Texts | None = None
    documents: Texts | None = None
    items: Texts | None = None
    data_1: Texts | None = None
    data_2: Texts | None = None


decode_rerank = msgspec.json.Decoder(RerankRequest).decode
decode_score = msgspec.json.Decoder(ScoreRequest).decode
_PAIRS = (
    ("text_1", "text_2"),
    ("queries", "documents"),
    ("queries", "items"),
    ("data_1", "data_2"),
)


def text_of(value: Any, param: str) -> str:
    """A text, alone or as an object's ``text``."""
    if isinstance(value, dict):
        value, param = value.get("text"), f"{param}.text"
    if not isinstance(value, str):
        raise InvalidRequest("It must be a text, or an object with one.", param=param)
    if not value:
        raise InvalidRequest(f"'{param}' must not be empty.", param=param)
    return value


def texts_of(value: Texts, param: str) -> list[str]:
    if isinstance(value, str):
        return [text_of(value, param)]
    if not 0 < len(value) <= MOST_DOCUMENTS:
        raise InvalidRequest(f"'{param}' has 1 to {MOST_DOCUMENTS} elements.", param=param)
    return [text_of(item, f"{param}[{index}]") for index, item in enumerate(value)]


def sides_of(body: ScoreRequest) -> tuple[list[str], list[str]]:
    """The texts to be compared: as many on each side, or one with all."""
    given = [name for pair in _PAIRS for name in pair if getattr(body, name) is not None]
    found = [pair for pair in _PAIRS if set(given) == set(pair)]
    if not found:
        raise InvalidRequest(
            "Send 'text_1' and 'text_2', or 'queries' and 'documents' or 'items'.",
            param=given[0] if given else "text_1",
        )
    left, right = (texts_of(getattr(body, name), name) for name in found[0])
    if len(left) not in (1, len(right)):
        raise InvalidRequest(
            f"It has {len(left)} elements, and '{found[0][1]}' {len(right)}: send as many, or one.",
            param=found[0][0],
        )
    return left, right
