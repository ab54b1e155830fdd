"""Hard monthly spend limits on the wire: amounts in whole cents, as at OpenAI."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from api.management.wire import Answer, Body

MICROS_OF_CENT = 10_000
MOST_CENTS = 10**12


class Enforcement(Answer, frozen=True, kw_only=True):
    """``enforcing`` once the month's spend has reached the limit and requests are refused."""

    status: Literal["inactive", "enforcing"]


class SpendLimit(Answer, frozen=True, kw_only=True):
    threshold_amount: int
    enforcement: Enforcement
    object: Literal["organization.spend_limit", "project.spend_limit"]
    currency: Literal["USD"] = "USD"
    interval: Literal["month"] = "month"

    @classmethod
    def of(cls, micros: int, spent_micros: int, kind: str) -> SpendLimit:
        status: Literal["inactive", "enforcing"] = (
            "enforcing" if spent_micros >= micros else "inactive"
        )
        return cls(
            threshold_amount=micros // MICROS_OF_CENT,
            enforcement=Enforcement(status=status),
            object=kind,  # type: ignore[arg-type]
        )


class NewSpendLimit(Body, frozen=True, kw_only=True):
    threshold_amount: Annotated[int, Meta(ge=0, le=MOST_CENTS)]
    currency: Literal["USD"]
    interval: Literal["month"]
