"""Every change to billing: recording usage (its own file) and adding prices."""

from __future__ import annotations

from datetime import datetime

from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from billing.models import MAX_RATE_MICROS, MAX_TIER_PERCENT, Price
from billing.pricebook import CHANNEL
from billing.recording import Rejection, record_usage, reject_reports
from tenants import audit
from tenants.errors import InvalidInput
from tenants.models import User

__all__ = ["Rejection", "add_price", "notify_prices_changed", "record_usage", "reject_reports"]


@transaction.atomic
def add_price(
    model: str,
    *,
    input_micros_per_million: int,
    cached_input_micros_per_million: int,
    output_micros_per_million: int,
    priority_percent: int = 175,
    flex_percent: int = 50,
    batch_percent: int = 50,
    effective_from: datetime | None = None,
    acting_user: User | None,
    address: str | None = None,
) -> Price:
    """A new price of ``model`` from ``effective_from`` (now, if None) on.

    Not from a moment in the past: what was recorded since keeps its cost, and the
    price list would tell something else.
    """
    rates = {
        "input_micros_per_million": input_micros_per_million,
        "cached_input_micros_per_million": cached_input_micros_per_million,
        "output_micros_per_million": output_micros_per_million,
    }
    percents = {
        "priority_percent": priority_percent,
        "flex_percent": flex_percent,
        "batch_percent": batch_percent,
    }
    effective_from = _checked_moment(effective_from)
    _check_price(model, rates, percents)
    try:
        with transaction.atomic():
            price = Price.objects.create(
                model=model, effective_from=effective_from, **rates, **percents
            )
    except IntegrityError as error:
        raise InvalidInput(
            "This model has a price from that moment on.", param="effective_from"
        ) from error
    audit.record_event(
        acting_user=acting_user,
        action="price.added",
        object_type="price",
        object_id=str(price.pk),
        after={"model": model, "effective_from": effective_from.isoformat(), **rates, **percents},
        address=address,
    )
    notify_prices_changed()
    return price


def notify_prices_changed() -> None:
    """Have every gateway read the prices again, on commit."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, '')", [CHANNEL])


def _checked_moment(effective_from: datetime | None) -> datetime:
    now = timezone.now()
    if effective_from is None:
        return now
    if timezone.is_naive(effective_from):
        raise InvalidInput("A price's start needs a time zone.", param="effective_from")
    if effective_from < now:
        raise InvalidInput("A price cannot start in the past.", param="effective_from")
    return effective_from


def _check_price(model: str, rates: dict[str, int], percents: dict[str, int]) -> None:
    if not 1 <= len(model) <= 120 or not model.isprintable():
        raise InvalidInput("A model's name has 1 to 120 printable characters.", param="model")
    for name, rate in rates.items():
        if not 0 <= rate <= MAX_RATE_MICROS:
            raise InvalidInput(f"A rate lies between 0 and {MAX_RATE_MICROS}.", param=name)
    for name, percent in percents.items():
        if not 0 <= percent <= MAX_TIER_PERCENT:
            raise InvalidInput(
                f"A tier pays 0 to {MAX_TIER_PERCENT} percent of the price.", param=name
            )
