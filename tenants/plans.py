"""What a plan consists of, and the three that an installation begins with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PlanTerms:
    """The fields of ``Plan``; None sets no limit."""

    slug: str
    name: str
    requests_per_minute: int | None = None
    requests_per_hour: int | None = None
    requests_per_day: int | None = None
    tokens_per_minute: int | None = None
    tokens_per_day: int | None = None
    concurrent_requests: int | None = None
    monthly_tokens: int | None = None
    monthly_budget_micros: int | None = None
    stored_bytes: int | None = None
    batch_tokens: int | None = None
    fair_share_weight: int = 1
    is_default: bool = False
    allows_custom_limits: bool = False
    allows_priority: bool = False
    allows_dedicated_capacity: bool = False


DEFAULT_PLANS = (
    PlanTerms(
        slug="free",
        name="Free",
        # To try it out: a person at a playground, not a program.
        requests_per_hour=20,
        tokens_per_minute=20_000,
        tokens_per_day=100_000,
        concurrent_requests=2,
        monthly_tokens=1_000_000,
        stored_bytes=1 << 30,
        batch_tokens=200_000,
    ),
    PlanTerms(
        slug="pay-as-you-go",
        name="Pay-as-you-go",
        requests_per_minute=6_000,
        tokens_per_minute=2_000_000,
        concurrent_requests=256,
        stored_bytes=100 << 30,
        batch_tokens=100_000_000,
        fair_share_weight=4,
        is_default=True,
    ),
    PlanTerms(
        slug="enterprise",
        name="Enterprise",
        requests_per_minute=60_000,
        tokens_per_minute=20_000_000,
        concurrent_requests=2_048,
        stored_bytes=1 << 40,
        batch_tokens=5_000_000_000,
        fair_share_weight=16,
        allows_custom_limits=True,
        allows_priority=True,
        allows_dedicated_capacity=True,
    ),
)
