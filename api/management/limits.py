"""Limits of projects and keys on the wire: an extension of OpenAI's objects."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from api.management.wire import Answer, Body
from tenants.models import LimitFields

Limit = Annotated[int, Meta(ge=0, le=2**31 - 1)] | None
LargeLimit = Annotated[int, Meta(ge=0, le=2**63 - 1)] | None


class Limits(Answer, frozen=True, kw_only=True):
    """Null sets no limit, 0 allows nothing. Tokens are prompt plus output."""

    requests_per_minute: int | None
    requests_per_hour: int | None
    requests_per_day: int | None
    tokens_per_minute: int | None
    tokens_per_day: int | None
    concurrent_requests: int | None
    monthly_tokens: int | None
    monthly_budget_micros: int | None


class NewLimits(Body, frozen=True, kw_only=True):
    """What is left out stays as it is."""

    requests_per_minute: Limit | UnsetType = UNSET
    requests_per_hour: Limit | UnsetType = UNSET
    requests_per_day: Limit | UnsetType = UNSET
    tokens_per_minute: Limit | UnsetType = UNSET
    tokens_per_day: LargeLimit | UnsetType = UNSET
    concurrent_requests: Limit | UnsetType = UNSET
    monthly_tokens: LargeLimit | UnsetType = UNSET
    monthly_budget_micros: LargeLimit | UnsetType = UNSET


def limits_of(row: LimitFields) -> Limits:
    return Limits(**{name: getattr(row, name) for name in Limits.__struct_fields__})


def given(body: Body | UnsetType | None) -> dict[str, Any]:
    """The fields that a client sent."""
    if not isinstance(body, Body):
        return {}
    values = {name: getattr(body, name) for name in body.__struct_fields__}
    return {name: value for name, value in values.items() if value is not msgspec.UNSET}
