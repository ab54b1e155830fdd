"""The kinds of limit there are, and what becomes of each while Redis is away."""

from __future__ import annotations

from typing import Literal, NamedTuple

MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000


class Kind(NamedTuple):
    """One kind of limit. ``noun`` follows its number in a sentence."""

    name: str
    noun: str
    unit: Literal["requests", "tokens", "micros"]
    period_ms: int = 0  # of a bucket
    # Without Redis: "closed" refuses, because money that was overspent is gone; "local" goes
    # on within this process's share of the limit, because a rate is exceeded for a while only.
    outage: Literal["closed", "local"] = "local"


# In the order in which the scripts count them: that of ``Limits``' fields, then the credit.
KINDS = (
    Kind("requests_per_minute", "requests a minute", "requests", MINUTE_MS),
    Kind("requests_per_hour", "requests an hour", "requests", HOUR_MS),
    Kind("requests_per_day", "requests a day", "requests", DAY_MS),
    Kind("tokens_per_minute", "tokens a minute", "tokens", MINUTE_MS),
    Kind("tokens_per_day", "tokens a day", "tokens", DAY_MS),
    Kind("concurrent_requests", "requests at once", "requests"),
    Kind("monthly_tokens", "tokens this month", "tokens", outage="closed"),
    Kind("monthly_budget", "this month", "micros", outage="closed"),
    Kind("prepaid_credit", "of prepaid credit", "micros", outage="closed"),
)
BUCKETS = tuple(place for place, kind in enumerate(KINDS) if kind.period_ms)
CONCURRENT, MONTHLY_TOKENS, MONTHLY_BUDGET, PREPAID_CREDIT = 5, 6, 7, 8


class Costs(NamedTuple):
    """What a request is charged: rates what it will likely use, sums the most that it can."""

    expected_tokens: int
    most_tokens: int
    most_micros: int

    def of(self, place: int) -> int:
        """What it is charged by the limit at ``place`` of KINDS."""
        unit = KINDS[place].unit
        if unit == "micros":
            return self.most_micros
        if unit == "requests":
            return 1
        return self.most_tokens if place == MONTHLY_TOKENS else self.expected_tokens
