"""``/v1/organization/usage/*``"""

from __future__ import annotations

from api.management.operation import operation
from api.management.usage.buckets import Span, span_of
from api.management.usage.wire import (
    CompletionsBucket,
    CompletionsQuery,
    CompletionsResult,
    CompletionsUsage,
    EmbeddingsBucket,
    EmbeddingsResult,
    EmbeddingsUsage,
    EmptyBucket,
    EmptyUsage,
    OtherQuery,
    TokenQuery,
)
from api.management.view import ManagementView
from api.parameters import tier_name
from billing.buckets import BucketRow, UsageFilters, by_bucket, usage_buckets


class CompletionsUsageView(ManagementView):
    @operation("usage.read", query=CompletionsQuery, answer=CompletionsUsage)
    def get(self, query: CompletionsQuery) -> CompletionsUsage:
        """Tokens and requests of chat and completions."""
        span = span_of(query)
        rows = _rows(self, query, span, is_embeddings=False, is_batch=query.batch)
        source = "unlabeled" if "api_source" in query.group_by else None
        buckets = [
            CompletionsBucket(
                start_time=start,
                end_time=end,
                results=[_completions(row, source) for row in rows.get(start, [])],
            )
            for start, end in span.buckets()
        ]
        return CompletionsUsage(
            data=buckets, has_more=span.next_page is not None, next_page=span.next_page
        )


class EmbeddingsUsageView(ManagementView):
    @operation("usage.read", query=TokenQuery, answer=EmbeddingsUsage)
    def get(self, query: TokenQuery) -> EmbeddingsUsage:
        """Tokens and requests of embeddings."""
        span = span_of(query)
        rows = _rows(self, query, span, is_embeddings=True)
        buckets = [
            EmbeddingsBucket(
                start_time=start,
                end_time=end,
                results=[_embeddings(row) for row in rows.get(start, [])],
            )
            for start, end in span.buckets()
        ]
        return EmbeddingsUsage(
            data=buckets, has_more=span.next_page is not None, next_page=span.next_page
        )


class OtherUsageView(ManagementView):
    @operation("usage.read", query=OtherQuery, answer=EmptyUsage)
    def get(self, query: OtherQuery, kind: str) -> EmptyUsage:
        """Images, audio, moderations and so on: truthfully none."""
        span = span_of(query)
        data = [EmptyBucket(start_time=s, end_time=e, results=[]) for s, e in span.buckets()]
        return EmptyUsage(data=data, has_more=span.next_page is not None, next_page=span.next_page)


def _rows(
    view: ManagementView,
    query: CompletionsQuery | TokenQuery,
    span: Span,
    *,
    is_embeddings: bool,
    is_batch: bool | None = None,
) -> dict[int, list[BucketRow]]:
    filters = UsageFilters(
        is_embeddings=is_embeddings,
        projects=tuple(query.project_ids),
        users=tuple(query.user_ids),
        api_keys=tuple(query.api_key_ids),
        models=tuple(query.models),
        is_batch=is_batch,
    )
    groups = tuple(query.group_by)
    return by_bucket(
        usage_buckets(view.organization, span.start, span.end, span.width_s, filters, groups)
    )


def _completions(row: BucketRow, source: str | None) -> CompletionsResult:
    groups = dict(row.groups)
    if "service_tier" in groups:
        groups["service_tier"] = tier_name(groups["service_tier"])
    return CompletionsResult(
        num_model_requests=row.requests,
        input_tokens=row.prompt_tokens,
        output_tokens=row.completion_tokens,
        input_cached_tokens=row.cached_tokens,
        input_uncached_tokens=row.prompt_tokens - row.cached_tokens,
        **groups,
        api_source=source,
    )


def _embeddings(row: BucketRow) -> EmbeddingsResult:
    return EmbeddingsResult(
        num_model_requests=row.requests, input_tokens=row.prompt_tokens, **row.groups
    )
