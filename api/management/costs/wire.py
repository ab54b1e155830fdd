"""Costs in days, on the wire: dollars that were whole micro-dollars until here."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from msgspec import Meta

from api.management.usage.wire import Ids, UsageQuery
from api.management.wire import MOST_FILTERED, Answer, Text

BUCKETS = (7, 180)  # by default, and at most
CostGroup = Literal["project_id", "user_id", "line_item", "api_key_id", "api_source"]


class CostQuery(UsageQuery, frozen=True, kw_only=True):
    bucket_width: Literal["1d"] = "1d"
    group_by: Annotated[list[CostGroup], Meta(max_length=5)] = []
    api_key_ids: Ids = []
    line_items: Annotated[list[Text], Meta(max_length=MOST_FILTERED)] = []


class Amount(Answer, frozen=True, kw_only=True):
    """``value`` has at most six decimals, and is exact."""

    value: Decimal
    currency: Literal["usd"] = "usd"


class CostResult(Answer, frozen=True, kw_only=True):
    """A line item is a model's name; its quantity is its tokens."""

    amount: Amount
    line_item: str | None = None
    quantity: int | None = None
    quantity_unit: Literal["tokens"] | None = None
    project_id: str | None = None
    user_id: str | None = None
    api_key_id: str | None = None
    api_source: str | None = None
    object: Literal["organization.costs.result"] = "organization.costs.result"


class CostBucket(Answer, frozen=True, kw_only=True):
    start_time: int
    end_time: int
    results: list[CostResult]
    object: Literal["bucket"] = "bucket"


class Costs(Answer, frozen=True, kw_only=True):
    data: list[CostBucket]
    has_more: bool
    next_page: str | None
    object: Literal["page"] = "page"
