"""Prices in memory: what a request may cost at most, and what the ledger will say it did."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from billing import pricebook as pricebooks
from billing.actions import add_price, record_usage
from billing.models import Price, UsageEvent
from billing.pricebook import Pricebook
from billing.prices import select_price
from tests.billing.factory import MODEL, STARTED_AT, Tenant, make_price, make_report
from tests.inference.callers import eventually
from tests.tenants.database import in_thread, watched_queries

AT = STARTED_AT.timestamp()
rates = st.integers(0, 10_000_000)


def price(*its: int, begins: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> Price:
    return Price(
        model=MODEL,
        effective_from=begins,
        input_micros_per_million=its[0],
        cached_input_micros_per_million=its[1],
        output_micros_per_million=its[2],
    )


def test_the_most_is_all_of_the_prompt_and_the_longest_answer() -> None:
    book = Pricebook([price(2_000_000, 500_000, 6_000_000)])

    assert book.most_cost_micros(MODEL, 100, 10, AT) == 260
    assert book.most_cost_micros(MODEL, 0, 0, AT) == 0
    assert book.most_cost_micros("unpriced", 10**6, 10**6, AT) == 0
    assert book.most_cost_micros(MODEL, 100, 10, datetime(2025, 1, 1, tzinfo=UTC).timestamp()) == 0


@given(st.tuples(rates, rates, rates), st.integers(0, 9_999), st.integers(0, 9_999), st.data())
def test_nothing_costs_more_than_its_most(
    its: tuple[int, int, int], prompt: int, longest: int, data: Any
) -> None:
    book = Pricebook([price(*its)])
    cached = data.draw(st.integers(0, prompt))
    produced = data.draw(st.integers(0, longest))
    hit = data.draw(st.booleans())
    tier = data.draw(st.sampled_from(UsageEvent.Tier.values))
    report = pricebooks.UsageReport(
        "r", 1, 1, 1, MODEL, "chat.completions", "completed", "gateway",
        prompt, cached, produced, AT, None, 1, "", hit, tier=tier,
    )  # fmt: skip

    most = book.most_cost_micros(MODEL, prompt, longest, AT, tier)
    assert 0 <= book.cost_micros(report) <= most


def test_a_price_takes_effect_at_its_moment() -> None:
    later = STARTED_AT + timedelta(hours=1)
    book = Pricebook([price(1_000_000, 0, 0), price(3_000_000, 0, 0, begins=later)])

    assert book.most_cost_micros(MODEL, 10, 0, AT) == 10
    assert book.most_cost_micros(MODEL, 10, 0, later.timestamp() - 0.001) == 10
    assert book.most_cost_micros(MODEL, 10, 0, later.timestamp()) == 30


def test_a_report_costs_here_what_the_ledger_posts(tenant: Tenant) -> None:
    make_price()
    reports = [
        make_report(tenant, cached_tokens=40),
        make_report(tenant, cache_hit=True),
        make_report(tenant, status="failed"),
        make_report(tenant, status="cancelled", completion_tokens=0),
        make_report(tenant, status="completed", endpoint="embeddings", completion_tokens=0),
        make_report(tenant, model="unpriced"),
        make_report(tenant, tier="priority"),
        make_report(tenant, tier="flex"),
        make_report(tenant, tier="batch", cache_hit=True),
    ]
    book = Pricebook()
    book.load()
    record_usage(reports)

    posted = dict(UsageEvent.objects.values_list("request_id", "cost_micros"))
    assert {report.request_id: book.cost_micros(report) for report in reports} == posted
    # 100 + 10 tokens are 260: at 175 and 50 percent; 100 cached ones 50, at half 25.
    assert set(posted.values()) == {0, 50, 200, 455, 130, 25}
    tiers = dict(UsageEvent.objects.values_list("request_id", "tier"))
    assert tiers == {report.request_id: report.tier for report in reports}


@asynccontextmanager
async def running(book: Pricebook) -> AsyncIterator[None]:
    task = asyncio.create_task(book.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.sleep(0.05)  # for the listener, which is cancelled with it


@pytest.mark.django_db(transaction=True)
async def test_a_new_price_reaches_a_running_gateway_by_its_notice() -> None:
    book = Pricebook()
    soon = timezone.now() + timedelta(minutes=1)
    new = {
        "input_micros_per_million": 9_000_000,
        "cached_input_micros_per_million": 0,
        "output_micros_per_million": 0,
    }
    async with running(book):
        await in_thread(make_price)
        await book.refresh()
        await in_thread(add_price, MODEL, **new, effective_from=soon, acting_user=None)
        await eventually(lambda: book.most_cost_micros(MODEL, 1, 0, soon.timestamp()) == 9, 5)
        with watched_queries() as statements:
            assert book.most_cost_micros(MODEL, 1, 0, soon.timestamp() - 30) == 2
        assert statements == []


@pytest.mark.django_db(transaction=True)
async def test_without_a_notice_prices_are_read_anew_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pricebooks, "REFRESH_S", 0.1)
    book = Pricebook()
    async with running(book):
        await in_thread(make_price)
        await eventually(lambda: book.most_cost_micros(MODEL, 1, 0, AT) == 2, 5)


@given(
    st.lists(st.integers(0, 20), min_size=1, max_size=6, unique=True), st.floats(-1, 22, width=32)
)
def test_the_price_in_memory_is_the_one_that_the_ledger_selects(
    begin: list[int], at: float
) -> None:
    epoch = datetime(2026, 1, 1, tzinfo=UTC)
    prices = [
        Price(model=model, effective_from=epoch + timedelta(seconds=second))
        for second in begin
        for model in ("a", "b")
    ]
    unix_s = epoch.timestamp() + at
    found = Pricebook(prices)._price("a", unix_s)
    assert found is select_price(prices, "a", datetime.fromtimestamp(unix_s, UTC))
