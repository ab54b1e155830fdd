"""What a project may use of each model, on the wire."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType

from api.management.limits import LargeLimit, Limit
from api.management.wire import Answer, Body, Id
from tenants.models import ProjectModelLimit
from tenants.pages import Cursor

PREFIX = "rl-"
# OpenAI's name of a limit, or ours where it has none, to the column.
COLUMNS = {
    "max_requests_per_1_minute": "requests_per_minute",
    "max_tokens_per_1_minute": "tokens_per_minute",
    "max_requests_per_1_day": "requests_per_day",
    "max_requests_per_1_hour": "requests_per_hour",
    "max_tokens_per_1_day": "tokens_per_day",
    "max_concurrent_requests": "concurrent_requests",
}


class RateLimit(Answer, frozen=True, kw_only=True):
    """Null where the project sets no limit of its own; the plan's hold in any case."""

    id: str
    model: str
    max_requests_per_1_minute: int | None
    max_tokens_per_1_minute: int | None
    max_requests_per_1_day: int | None
    max_requests_per_1_hour: int | None
    max_tokens_per_1_day: int | None
    max_concurrent_requests: int | None
    object: Literal["project.rate_limit"] = "project.rate_limit"

    @classmethod
    def of(cls, model: str, row: ProjectModelLimit | None) -> RateLimit:
        limits: dict[str, Any] = {
            name: row and getattr(row, column) for name, column in COLUMNS.items()
        }
        return cls(id=PREFIX + model, model=model, **limits)


class RateLimitChange(Body, frozen=True, kw_only=True):
    """What is left out stays; null takes the project's own limit away."""

    max_requests_per_1_minute: Limit | UnsetType = UNSET
    max_tokens_per_1_minute: Limit | UnsetType = UNSET
    max_requests_per_1_day: Limit | UnsetType = UNSET
    max_requests_per_1_hour: Limit | UnsetType = UNSET
    max_tokens_per_1_day: LargeLimit | UnsetType = UNSET
    max_concurrent_requests: Limit | UnsetType = UNSET
    max_images_per_1_minute: Any = None
    max_audio_megabytes_per_1_minute: Any = None
    batch_1_day_max_input_tokens: Any = None


class RateLimitQuery(Body, frozen=True, kw_only=True):
    after: Id | None = None
    before: Id | None = None
    limit: Annotated[int, Meta(ge=1, le=100)] = 100

    @property
    def cursor(self) -> Cursor:
        return Cursor(self.limit, after=self.after, before=self.before)
