"""What a request costs: pure, exact integer arithmetic, no database.

A price is micro-dollars for a million tokens of each kind, so a request's exact
cost is an integer number of millionths of a micro-dollar. It is rounded once, on
the total, half up, to whole micro-dollars. Nothing here is ever a float.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeVar

from billing.usage import UsageReport

TOKENS_PER_RATE = 1_000_000
_WHOLE_PERCENT = 100
# Endpoints whose answer is not tokens: a completed request is output enough to bill.
WITHOUT_OUTPUT_TOKENS = frozenset({"embeddings"})


class Rates(Protocol):
    """Micro-dollars for a million tokens; ``billing.models.Price`` is one."""

    @property
    def input_micros_per_million(self) -> int: ...

    @property
    def cached_input_micros_per_million(self) -> int: ...

    @property
    def output_micros_per_million(self) -> int: ...

    # Percent of the above for the other service tiers than standard.
    @property
    def priority_percent(self) -> int: ...

    @property
    def flex_percent(self) -> int: ...

    @property
    def batch_percent(self) -> int: ...


class DatedRates(Rates, Protocol):
    """Rates of one model from a moment on."""

    @property
    def model(self) -> str: ...

    @property
    def effective_from(self) -> datetime: ...


DatedRatesT = TypeVar("DatedRatesT", bound=DatedRates)


@dataclass(frozen=True, slots=True)
class BilledTokens:
    """Tokens to bill; ``cached`` of the ``prompt`` tokens were found in a cache."""

    prompt: int
    cached: int
    completion: int

    def __post_init__(self) -> None:
        if min(self.prompt, self.cached, self.completion) < 0 or self.cached > self.prompt:
            raise ValueError("token counts must be 0 <= cached <= prompt and 0 <= completion")


NOTHING = BilledTokens(0, 0, 0)


def billed_tokens(report: UsageReport) -> BilledTokens:
    """The tokens of ``report`` that are paid for.

    Zero output or an error bills nothing: a failed request, one that screening
    blocked before its first token, and one cancelled before its first token. One
    that was cancelled or blocked later pays for its prompt and what was produced.
    An answer from the exact response cache pays all its prompt tokens at the
    cached price and nothing for its output.
    """
    produced_output = report.completion_tokens > 0 or (
        report.status == "completed" and report.endpoint in WITHOUT_OUTPUT_TOKENS
    )
    if report.status == "failed" or not produced_output:
        return NOTHING
    if report.cache_hit:
        return BilledTokens(report.prompt_tokens, report.prompt_tokens, 0)
    return BilledTokens(report.prompt_tokens, report.cached_tokens, report.completion_tokens)


def tier_percent(rates: Rates, tier: str) -> int:
    """What a tier pays of the standard price; one that nobody knows pays it whole."""
    if tier == "priority":
        return rates.priority_percent
    if tier == "flex":
        return rates.flex_percent
    return rates.batch_percent if tier == "batch" else _WHOLE_PERCENT


def cost_micros(rates: Rates, tokens: BilledTokens, tier: str = "standard") -> int:
    """Whole micro-dollars for ``tokens``: the exact total, rounded once, half up."""
    exact = (
        (tokens.prompt - tokens.cached) * rates.input_micros_per_million
        + tokens.cached * rates.cached_input_micros_per_million
        + tokens.completion * rates.output_micros_per_million
    )
    if tier == "standard":
        return (exact + TOKENS_PER_RATE // 2) // TOKENS_PER_RATE
    whole = TOKENS_PER_RATE * _WHOLE_PERCENT
    return (exact * tier_percent(rates, tier) + whole // 2) // whole


def select_price(prices: Iterable[DatedRatesT], model: str, at: datetime) -> DatedRatesT | None:
    """The price of ``model`` in force at ``at``: the latest that had begun, or None."""
    begun = [price for price in prices if price.model == model and price.effective_from <= at]
    return max(begun, key=lambda price: price.effective_from, default=None)
