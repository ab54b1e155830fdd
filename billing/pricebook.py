"""Prices in a gateway's memory: what a request may cost before it runs, and what it did cost.

Read from PostgreSQL at start, on every NOTIFY of a new price and once a minute; requests
never query it. Prices that begin later are in it and take effect at their moment.
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple

from asgiref.sync import sync_to_async
from django.db import connection

from billing.models import Price
from billing.prices import BilledTokens, billed_tokens, cost_micros
from billing.usage import UsageReport
from tenants.postgres.listening import keep_fresh

log = logging.getLogger(__name__)

CHANNEL = "prices_changed"
# A bound for what no NOTIFY announces: while the listener is away, a row changed by hand.
REFRESH_S = 60.0


class Pricebook:
    """``run`` keeps it fresh as a task; a model without a price costs nothing, as in the ledger."""

    def __init__(self, prices: Iterable[Price] = ()) -> None:
        self._prices = _by_model(prices)

    def most_cost_micros(
        self,
        model: str,
        prompt_tokens: int,
        output_tokens: int,
        at: float,
        tier: str = "standard",
    ) -> int:
        """The most that a request admitted at ``at`` (Unix seconds) can cost.

        Nothing is in a cache, unless that costs more, and the answer is as long as can be.
        """
        price = self._price(model, at)
        if price is None:
            return 0
        is_dearer_cached = price.cached_input_micros_per_million > price.input_micros_per_million
        cached = prompt_tokens if is_dearer_cached else 0
        return cost_micros(price, BilledTokens(prompt_tokens, cached, output_tokens), tier)

    def cost_micros(self, report: UsageReport) -> int:
        """What the ledger will post for this report."""
        price = self._price(report.model, report.started_at)
        return cost_micros(price, billed_tokens(report), report.tier) if price else 0

    def load(self) -> None:
        """Read all prices now; raises DatabaseError and keeps what it knew."""
        self._prices = _by_model(Price.objects.all())

    async def refresh(self) -> None:
        await sync_to_async(self._load_in_thread, thread_sensitive=False)()

    async def run(self) -> None:
        """For ever; what is known holds while the database is away. Cancel to stop."""
        await keep_fresh(CHANNEL, self.refresh, every_s=REFRESH_S)

    def _load_in_thread(self) -> None:
        try:
            self.load()
        finally:
            connection.close()

    def _price(self, model: str, at: float) -> Price | None:
        """As ``select_price`` says, without looking at every price for every request."""
        book = self._prices.get(model)
        if book is None:
            return None
        begun = bisect_right(book.begin, datetime.fromtimestamp(at, UTC))
        return book.prices[begun - 1] if begun else None


class _Book(NamedTuple):
    """One model's prices in the order in which they begin."""

    begin: list[datetime]
    prices: list[Price]


def _by_model(prices: Iterable[Price]) -> dict[str, _Book]:
    books: dict[str, dict[datetime, Price]] = {}
    for price in prices:
        books.setdefault(price.model, {}).setdefault(price.effective_from, price)
    return {model: _book_of(its) for model, its in books.items()}


def _book_of(prices: dict[datetime, Price]) -> _Book:
    begin = sorted(prices)
    return _Book(begin, [prices[each] for each in begin])
