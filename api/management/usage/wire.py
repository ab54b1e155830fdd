"""Usage in buckets of time, on the wire."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from msgspec import Meta

from api.management.wire import MOST_FILTERED, Answer, Body, Id, Text

Moment = Annotated[int, Meta(ge=0, le=253_402_300_000)]
Ids = Annotated[list[Id], Meta(max_length=MOST_FILTERED)]
Width = Literal["1m", "1h", "1d"]
# How many buckets a page has: by default, and at most.
BUCKETS: dict[str, tuple[int, int]] = {"1m": (60, 1440), "1h": (24, 168), "1d": (7, 31)}
Group = Literal[
    "project_id", "user_id", "api_key_id", "model", "batch", "service_tier", "api_source"
]
TokenGroup = Literal["project_id", "user_id", "api_key_id", "model"]
assert set(get_args(TokenGroup)) < set(get_args(Group))


class UsageQuery(Body, frozen=True, kw_only=True):
    """``page`` is the ``next_page`` of the answer before; keep the rest as it was."""

    start_time: Moment
    end_time: Moment | None = None
    bucket_width: Width = "1d"
    limit: Annotated[int, Meta(ge=1, le=1440)] | None = None
    page: Text | None = None
    project_ids: Ids = []


class FilteredQuery(UsageQuery, frozen=True, kw_only=True):
    user_ids: Ids = []
    api_key_ids: Ids = []
    models: Annotated[list[Text], Meta(max_length=MOST_FILTERED)] = []


class TokenQuery(FilteredQuery, frozen=True, kw_only=True):
    group_by: Annotated[list[TokenGroup], Meta(max_length=7)] = []


class CompletionsQuery(FilteredQuery, frozen=True, kw_only=True):
    group_by: Annotated[list[Group], Meta(max_length=7)] = []
    batch: bool | None = None


class OtherQuery(UsageQuery, frozen=True, kw_only=True):
    """Of what this platform does not have: filters are taken, and find nothing."""

    group_by: Annotated[list[Text], Meta(max_length=7)] = []
    user_ids: Ids = []
    api_key_ids: Ids = []
    models: Annotated[list[Text], Meta(max_length=MOST_FILTERED)] = []
    batch: bool | None = None
    sizes: Annotated[list[Text], Meta(max_length=MOST_FILTERED)] = []
    sources: Annotated[list[Text], Meta(max_length=MOST_FILTERED)] = []
    vector_store_ids: Ids = []
    context_levels: Annotated[list[Text], Meta(max_length=MOST_FILTERED)] = []


class CompletionsResult(Answer, frozen=True, kw_only=True):
    """Tokens as they were billed; those of ``group_by`` are set, the others null."""

    num_model_requests: int
    input_tokens: int
    output_tokens: int
    input_cached_tokens: int
    input_uncached_tokens: int
    project_id: str | None = None
    user_id: str | None = None
    api_key_id: str | None = None
    model: str | None = None
    batch: bool | None = None
    service_tier: str | None = None
    api_source: str | None = None
    object: Literal["organization.usage.completions.result"] = (
        "organization.usage.completions.result"
    )


class EmbeddingsResult(Answer, frozen=True, kw_only=True):
    num_model_requests: int
    input_tokens: int
    project_id: str | None = None
    user_id: str | None = None
    api_key_id: str | None = None
    model: str | None = None
    object: Literal["organization.usage.embeddings.result"] = "organization.usage.embeddings.result"


class CompletionsBucket(Answer, frozen=True, kw_only=True):
    start_time: int
    end_time: int
    results: list[CompletionsResult]
    object: Literal["bucket"] = "bucket"


class EmbeddingsBucket(Answer, frozen=True, kw_only=True):
    start_time: int
    end_time: int
    results: list[EmbeddingsResult]
    object: Literal["bucket"] = "bucket"


class EmptyResult(Answer, frozen=True, kw_only=True):
    """There is none of these."""

    object: str


class EmptyBucket(Answer, frozen=True, kw_only=True):
    start_time: int
    end_time: int
    results: list[EmptyResult]
    object: Literal["bucket"] = "bucket"


class CompletionsUsage(Answer, frozen=True, kw_only=True):
    data: list[CompletionsBucket]
    has_more: bool
    next_page: str | None
    object: Literal["page"] = "page"


class EmbeddingsUsage(Answer, frozen=True, kw_only=True):
    data: list[EmbeddingsBucket]
    has_more: bool
    next_page: str | None
    object: Literal["page"] = "page"


class EmptyUsage(Answer, frozen=True, kw_only=True):
    data: list[EmptyBucket]
    has_more: bool
    next_page: str | None
    object: Literal["page"] = "page"
