"""Money arithmetic is exact: held against Fraction, for all inputs that can occur."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.intake import MAX_TOKENS
from billing.models import MAX_RATE_MICROS, MAX_TIER_PERCENT
from billing.prices import NOTHING, BilledTokens, billed_tokens, cost_micros, select_price
from billing.usage import UsageReport


@dataclass(frozen=True)
class FixedRates:
    input_micros_per_million: int
    cached_input_micros_per_million: int
    output_micros_per_million: int
    priority_percent: int = 175
    flex_percent: int = 50
    batch_percent: int = 50


@dataclass(frozen=True)
class DatedPrice(FixedRates):
    model: str = ""
    effective_from: datetime = datetime(2026, 1, 1, tzinfo=UTC)


rate = st.integers(0, MAX_RATE_MICROS)
rates = st.builds(FixedRates, rate, rate, rate)
count = st.integers(0, MAX_TOKENS)


@st.composite
def tokens(draw: st.DrawFn) -> BilledTokens:
    prompt = draw(count)
    return BilledTokens(prompt, draw(st.integers(0, prompt)), draw(count))


def exact_cost(rates: FixedRates, tokens: BilledTokens) -> Fraction:
    return (
        Fraction(tokens.prompt - tokens.cached) * rates.input_micros_per_million
        + Fraction(tokens.cached) * rates.cached_input_micros_per_million
        + Fraction(tokens.completion) * rates.output_micros_per_million
    ) / 1_000_000


percent = st.integers(0, MAX_TIER_PERCENT)
tiered = st.builds(FixedRates, rate, rate, rate, percent, percent, percent)


@given(rates, tokens())
def test_cost_is_the_exact_cost_rounded_half_up(rates: FixedRates, tokens: BilledTokens) -> None:
    assert cost_micros(rates, tokens) == math.floor(exact_cost(rates, tokens) + Fraction(1, 2))


@given(tiered, tokens(), st.sampled_from(["priority", "flex", "batch"]))
def test_a_tier_pays_its_percent_rounded_once(
    rates: FixedRates, tokens: BilledTokens, tier: str
) -> None:
    exact = exact_cost(rates, tokens) * getattr(rates, f"{tier}_percent") / 100
    assert cost_micros(rates, tokens, tier) == math.floor(exact + Fraction(1, 2))


@given(rates, tokens(), tokens())
def test_a_whole_differs_from_its_parts_by_their_roundings_only(
    rates: FixedRates, one: BilledTokens, other: BilledTokens
) -> None:
    whole = BilledTokens(
        one.prompt + other.prompt, one.cached + other.cached, one.completion + other.completion
    )
    parts = cost_micros(rates, one) + cost_micros(rates, other)
    assert abs(cost_micros(rates, whole) - parts) <= 1


@given(rates, tokens(), st.integers(0, 1000), st.integers(0, 1000))
def test_more_tokens_never_cost_less(
    rates: FixedRates, tokens: BilledTokens, more_prompt: int, more_completion: int
) -> None:
    more = BilledTokens(
        tokens.prompt + more_prompt, tokens.cached, tokens.completion + more_completion
    )
    assert cost_micros(rates, more) >= cost_micros(rates, tokens)


@given(rate, rate, tokens())
def test_where_caching_is_no_cheaper_it_changes_nothing(
    input_rate: int, output_rate: int, tokens: BilledTokens
) -> None:
    rates = FixedRates(input_rate, input_rate, output_rate)
    uncached = BilledTokens(tokens.prompt, 0, tokens.completion)
    assert cost_micros(rates, tokens) == cost_micros(rates, uncached)


@given(tokens())
def test_the_largest_cost_fits_a_bigint(tokens: BilledTokens) -> None:
    dearest = FixedRates(*[MAX_RATE_MICROS] * 3, priority_percent=MAX_TIER_PERCENT)
    assert cost_micros(dearest, tokens) <= 2 * MAX_TOKENS * 1_000_000
    assert cost_micros(dearest, tokens, "priority") <= 20 * MAX_TOKENS * 1_000_000 < 2**63


@pytest.mark.parametrize(("micros", "expected"), [(499_999, 0), (500_000, 1), (1_500_000, 2)])
def test_half_a_micro_dollar_rounds_up(micros: int, expected: int) -> None:
    assert cost_micros(FixedRates(micros, 0, 0), BilledTokens(1, 0, 0)) == expected


@pytest.mark.parametrize("counts", [(-1, 0, 0), (1, 2, 0), (1, -1, 0), (1, 0, -1)])
def test_impossible_counts_have_no_cost(counts: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="token counts"):
        BilledTokens(*counts)


REPORT = UsageReport(
    request_id="req_1",
    organization=1,
    project=1,
    api_key=1,
    model="m",
    endpoint="chat.completions",
    status="completed",
    source="gateway",
    prompt_tokens=100,
    cached_tokens=30,
    completion_tokens=7,
    started_at=1.0,
    time_to_first_token_ms=1,
    duration_ms=1,
)
ALL = BilledTokens(100, 30, 7)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ALL),
        ({"status": "cancelled"}, ALL),
        ({"status": "blocked"}, ALL),  # screened out in the middle of its answer
        ({"status": "failed"}, NOTHING),
        ({"completion_tokens": 0}, NOTHING),
        ({"status": "cancelled", "completion_tokens": 0}, NOTHING),
        ({"status": "blocked", "completion_tokens": 0}, NOTHING),
        ({"endpoint": "embeddings", "completion_tokens": 0}, BilledTokens(100, 30, 0)),
        ({"endpoint": "embeddings", "completion_tokens": 0, "status": "cancelled"}, NOTHING),
        ({"cache_hit": True}, BilledTokens(100, 100, 0)),
        ({"cache_hit": True, "status": "failed"}, NOTHING),
    ],
)
def test_which_tokens_are_billed(changes: dict[str, object], expected: BilledTokens) -> None:
    assert billed_tokens(msgspec.structs.replace(REPORT, **changes)) == expected


MOMENT = datetime(2026, 3, 1, tzinfo=UTC)


def dated(model: str, days: int) -> DatedPrice:
    return DatedPrice(1, 1, 1, model=model, effective_from=MOMENT + timedelta(days=days))


def test_the_price_is_the_latest_that_has_begun() -> None:
    prices = [dated("m", 1), dated("m", -2), dated("m", -1), dated("other", 0)]
    assert select_price(prices, "m", MOMENT) is prices[2]


def test_a_price_holds_from_its_very_moment_on() -> None:
    price = dated("m", 0)
    assert select_price([price], "m", MOMENT) is price
    assert select_price([price], "m", MOMENT - timedelta(microseconds=1)) is None


def test_no_price_of_the_model_is_none() -> None:
    assert select_price([dated("other", -1)], "m", MOMENT) is None
