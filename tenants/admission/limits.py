"""What a refusal says, the headers that tell of limits, and months. Pure arithmetic."""

from __future__ import annotations

import calendar
import time
from collections.abc import Sequence
from typing import NamedTuple

from tenants.admission.kinds import (
    KINDS,
    MINUTE_MS,
    MONTHLY_BUDGET,
    MONTHLY_TOKENS,
    PREPAID_CREDIT,
    Costs,
)
from tenants.admission.subjects import Subject
from tenants.errors import LimitExceeded, RateHeaders


class Months(NamedTuple):
    """A calendar month (UTC) as months since year 0; when it and the next two begin, in ms."""

    number: int
    begins: int
    next_begins: int
    later_begins: int


def months_at(now: float) -> Months:
    """The months from a Unix time on."""
    utc = time.gmtime(now)
    number = utc.tm_year * 12 + utc.tm_mon - 1
    return Months(number, *(1000 * month_start_s(number + ahead) for ahead in range(3)))


def month_start_s(number: int) -> int:
    """The Unix time at which a month begins."""
    return calendar.timegm((number // 12, number % 12 + 1, 1, 0, 0, 0))


class Tightest(NamedTuple):
    """The bucket of one unit with least room; ``limit`` is -1 where there is none."""

    limit: int
    remaining: int
    reset_ms: int


def rate_headers(requests: Tightest, tokens: Tightest) -> RateHeaders:
    """The six ``x-ratelimit-*`` headers, or the three of the only unit that is limited."""
    headers: RateHeaders = []
    for unit, bucket in ((b"requests", requests), (b"tokens", tokens)):
        if bucket.limit >= 0:
            headers += [
                (b"x-ratelimit-limit-" + unit, b"%d" % bucket.limit),
                (b"x-ratelimit-remaining-" + unit, b"%d" % max(0, bucket.remaining)),
                (b"x-ratelimit-reset-" + unit, duration(bucket.reset_ms)),
            ]
    return headers


def duration(milliseconds: int) -> bytes:
    """OpenAI's form: ``250ms``, ``1.5s``, ``1m3s``, ``2h0m1s``."""
    if milliseconds < 1000:
        return b"%dms" % milliseconds
    if milliseconds < MINUTE_MS:
        return b"%gs" % (milliseconds / 1000)
    minutes, rest = divmod(milliseconds, MINUTE_MS)
    hours, minutes = divmod(minutes, 60)
    return (b"%dh" % hours if hours else b"") + b"%dm%gs" % (minutes, rest / 1000)


def refusal(
    place: int, subject: Subject, costs: Costs, retry_after_s: float | None, headers: RateHeaders
) -> LimitExceeded:
    """The error for a request that the limit at ``place`` of KINDS refused."""
    return LimitExceeded(
        _message(place, subject, costs, retry_after_s),
        limit=KINDS[place].name,
        subject=subject.kind,
        model=subject.model,
        retry_after_s=retry_after_s,
        headers=headers,
    )


def _message(place: int, subject: Subject, costs: Costs, retry_after_s: float | None) -> str:
    limit, amount, cost = (
        _described(place, subject),
        subject.amounts.by_place[place],
        costs.of(place),
    )
    if place == PREPAID_CREDIT:
        return f"{_may_cost(cost)}, more than is left of {limit}. Add credit in the portal."
    if place == MONTHLY_BUDGET and cost <= amount:
        return f"{_may_cost(cost)}, more than is left of {limit}, which begins anew every month."
    if place == MONTHLY_BUDGET:
        return f"{_may_cost(cost)}, more than {limit}. Lower max_tokens or shorten the prompt."
    if KINDS[place].unit == "tokens" and cost > amount:
        return (
            f"This request may need {cost} tokens, more than {limit}. "
            "Lower max_tokens or shorten the prompt."
        )
    message = f"T{limit[1:]} is reached."
    if retry_after_s is None or place == MONTHLY_TOKENS:
        return message + " See the portal for your plan."
    return message + f" Try again in {retry_after_s:g} s."


def _may_cost(micros: int) -> str:
    return f"This request may cost up to {dollars(micros)}"


def _described(place: int, subject: Subject) -> str:
    """As in: the project's budget of $12.00 this month for the model `x`."""
    kind, amount = KINDS[place], subject.amounts.by_place[place]
    number = dollars(amount) if kind.unit == "micros" else str(amount)
    what = {MONTHLY_BUDGET: "budget of ", PREPAID_CREDIT: ""}.get(place, "limit of ")
    described = f"the {subject.kind}'s {what}{number} {kind.noun}"
    return f"{described} for the model `{subject.model}`" if subject.model else described


def dollars(micros: int) -> str:
    """Micro-dollars exactly, with at least two decimals."""
    whole, rest = divmod(micros, 1_000_000)
    return f"${whole:,}.{f'{rest:06d}'.rstrip('0').ljust(2, '0')}"


def closed_limits(subjects: Sequence[Subject]) -> list[str]:
    """The names of limits set here that nothing may pass unchecked."""
    return [
        kind.name
        for place, kind in enumerate(KINDS)
        if kind.outage == "closed" and any(s.amounts.by_place[place] >= 0 for s in subjects)
    ]
