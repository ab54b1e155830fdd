"""``/v1/organization/costs``"""

from __future__ import annotations

from decimal import Decimal

from api.management.costs.wire import BUCKETS, Amount, CostBucket, CostQuery, CostResult, Costs
from api.management.operation import operation
from api.management.usage.buckets import span_of
from api.management.view import ManagementView
from billing.buckets import BucketRow, UsageFilters, by_bucket, usage_buckets

MICROS_OF_DOLLAR = 1_000_000


class CostsView(ManagementView):
    @operation("billing.read", query=CostQuery, answer=Costs)
    def get(self, query: CostQuery) -> Costs:
        """What was spent a day; the sum is the ledger's to the micro-dollar."""
        span = span_of(query, BUCKETS)
        filters = UsageFilters(
            projects=tuple(query.project_ids),
            api_keys=tuple(query.api_key_ids),
            models=tuple(query.line_items),
            is_billed=True,
        )
        groups = tuple("model" if name == "line_item" else name for name in query.group_by)
        rows = by_bucket(
            usage_buckets(self.organization, span.start, span.end, span.width_s, filters, groups)
        )
        source = "unlabeled" if "api_source" in query.group_by else None
        data = [
            CostBucket(
                start_time=start,
                end_time=end,
                results=[_result(row, source) for row in rows.get(start, [])],
            )
            for start, end in span.buckets()
        ]
        return Costs(data=data, has_more=span.next_page is not None, next_page=span.next_page)


def _result(row: BucketRow, source: str | None) -> CostResult:
    line_item = row.groups.get("model")
    quantity = row.prompt_tokens + row.completion_tokens
    return CostResult(
        amount=Amount(value=Decimal(row.cost_micros) / MICROS_OF_DOLLAR),
        line_item=line_item,
        quantity=None if line_item is None else quantity,
        quantity_unit=None if line_item is None else "tokens",
        project_id=row.groups.get("project_id"),
        user_id=row.groups.get("user_id"),
        api_key_id=row.groups.get("api_key_id"),
        api_source=source,
    )
