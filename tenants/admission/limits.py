"""Which limits a request meets, and the headers that tell of them. Pure arithmetic."""

from __future__ import annotations

import calendar
import time
from typing import Literal, NamedTuple

from tenants.errors import RateHeaders
from tenants.principal import Limits, Principal

MINUTE_MS = 60_000
Unit = Literal["requests", "tokens"]


class Check(NamedTuple):
    """One limit as the script sees it. ``key`` is its Redis key."""

    name: str  # requests_per_minute, tokens_per_minute, concurrent_requests, monthly_tokens
    subject: str  # organization, API key
    key: str
    kind: Literal["bucket", "gauge", "quota"]
    unit: Unit
    limit: int
    cost: int
    period_ms: int


def checks_for(
    principal: Principal, expected_tokens: int, most_tokens: int, now: float
) -> list[Check]:
    """Every limit of the organization and the key.

    ``expected_tokens`` is charged to rates, where a wrong guess is corrected within
    a minute; ``most_tokens``, the largest bill possible, to the monthly quota,
    which must hold even if every request runs to its end.
    """
    return [
        *_subject_checks(
            "organization",
            f"limit:o{principal.organization}",
            principal.organization_limits,
            expected_tokens,
            most_tokens,
            now,
        ),
        *_subject_checks(
            "API key",
            f"limit:k{principal.api_key}",
            principal.key_limits,
            expected_tokens,
            most_tokens,
            now,
        ),
    ]


def _subject_checks(
    subject: str, prefix: str, limits: Limits, expected: int, most: int, now: float
) -> list[Check]:
    checks = []
    if limits.requests_per_minute is not None:
        checks.append(
            Check("requests_per_minute", subject, f"{prefix}:rpm", "bucket", "requests",
                  limits.requests_per_minute, 1, MINUTE_MS)
        )  # fmt: skip
    if limits.tokens_per_minute is not None:
        checks.append(
            Check("tokens_per_minute", subject, f"{prefix}:tpm", "bucket", "tokens",
                  limits.tokens_per_minute, expected, MINUTE_MS)
        )  # fmt: skip
    if limits.concurrent_requests is not None:
        checks.append(
            Check("concurrent_requests", subject, f"{prefix}:now", "gauge", "requests",
                  limits.concurrent_requests, 1, 0)
        )  # fmt: skip
    if limits.monthly_tokens is not None:
        month, left_ms = month_of(now)
        checks.append(
            Check("monthly_tokens", subject, f"{prefix}:month:{month}", "quota", "tokens",
                  limits.monthly_tokens, most, left_ms)
        )  # fmt: skip
    return checks


def month_of(now: float) -> tuple[str, int]:
    """The calendar month (UTC) of a Unix time, and the milliseconds left of it."""
    utc = time.gmtime(now)
    days = calendar.monthrange(utc.tm_year, utc.tm_mon)[1]
    end = calendar.timegm((utc.tm_year, utc.tm_mon, days, 23, 59, 59)) + 1
    return f"{utc.tm_year}-{utc.tm_mon:02d}", max(1, int((end - now) * 1000))


def rate_headers(checks: list[Check], answer: list[int]) -> RateHeaders:
    """The six ``x-ratelimit-*`` headers: for each unit, the bucket with least room."""
    headers: RateHeaders = []
    for unit in ("requests", "tokens"):
        tightest = None
        for index, check in enumerate(checks):
            if check.kind == "bucket" and check.unit == unit:
                remaining = min(answer[3 + 2 * index], check.limit)
                reset_ms = answer[4 + 2 * index]
                if tightest is None or remaining < tightest[1]:
                    tightest = (check.limit, remaining, reset_ms)
        if tightest is not None:
            name = unit.encode()
            headers += [
                (b"x-ratelimit-limit-" + name, b"%d" % tightest[0]),
                (b"x-ratelimit-remaining-" + name, b"%d" % tightest[1]),
                (b"x-ratelimit-reset-" + name, _duration(tightest[2])),
            ]
    return headers


def _duration(milliseconds: int) -> bytes:
    """OpenAI's form: ``250ms``, ``1.5s``, ``1m3s``."""
    if milliseconds < 1000:
        return b"%dms" % milliseconds
    if milliseconds < MINUTE_MS:
        return b"%gs" % (milliseconds / 1000)
    minutes, rest = divmod(milliseconds, MINUTE_MS)
    return b"%dm%gs" % (minutes, rest / 1000)


def refusal_message(check: Check, retry_after_s: float | None) -> str:
    """What to tell the caller whom ``check`` refused."""
    names = {
        "requests_per_minute": f"{check.limit} requests a minute",
        "tokens_per_minute": f"{check.limit} tokens a minute",
        "concurrent_requests": f"{check.limit} requests at once",
        "monthly_tokens": f"{check.limit} tokens this month",
    }
    limit = f"the {check.subject}'s limit of {names[check.name]}"
    if check.unit == "tokens" and check.cost > check.limit:
        return (
            f"This request may need {check.cost} tokens, more than {limit}. "
            "Lower max_tokens or shorten the prompt."
        )
    message = f"T{limit[1:]} is reached."
    if retry_after_s is None or check.kind == "quota":
        return message + " See the portal for your plan."
    return message + f" Try again in {retry_after_s:g} s."
