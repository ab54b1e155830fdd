"""What the whole installation served lately, for staff: sums, waits and the largest customers.

Time is cut into buckets of fixed ends. One that ended an hour ago does not change any
more and is kept in the cache as a ``Digest``, so a page reads from the table what is
newer alone. Waits are counted in classes 5 % wide, of which percentiles are as exact.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec
from django.core.cache import cache
from django.db import connection
from redis.exceptions import RedisError

log = logging.getLogger(__name__)

# Requests are recorded about a second after their end, which is at most ten minutes after
# their beginning; a collector that was away for longer has alerts of its own.
FINAL_AFTER_S = 3_600
# Twice the longest span, with its comparison.
KEPT_S = 16 * 86_400
WAIT_CLASS = 1.05
NO_WAIT = -1  # nothing was waited for: embeddings, failures
# Of one bucket; who is in none of them is not among the largest of a span.
MOST_ORGANIZATIONS = 100


@dataclass(frozen=True)
class Span:
    """The last ``buckets`` of ``bucket_s`` seconds, the one under way included."""

    bucket_s: int
    buckets: int


SPANS = {"1h": Span(120, 30), "24h": Span(1_800, 48), "7d": Span(14_400, 42)}


class Digest(msgspec.Struct, array_like=True):
    """One bucket. ``organizations`` holds requests, tokens and micro-dollars by primary key."""

    requests: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_micros: int = 0
    waits: dict[int, int] = {}
    organizations: dict[int, tuple[int, int, int]] = {}


@dataclass(frozen=True)
class Customer:
    organization: int
    requests: int
    tokens: int
    cost_micros: int


@dataclass(frozen=True)
class Traffic:
    """``digests`` of a span by bucket, and ``before``, those of the span before it.

    ``elapsed`` is how much of the last bucket is over, 0 to 1: of the last bucket of
    ``before`` only as much is compared with.
    """

    span: Span
    starts: tuple[datetime, ...]
    digests: tuple[Digest, ...]
    before: tuple[Digest, ...]
    elapsed: float

    def total(self, name: str) -> int:
        return sum(getattr(each, name) for each in self.digests)

    def total_before(self, name: str) -> int:
        amounts = [getattr(each, name) for each in self.before]
        return round(sum(amounts[:-1]) + amounts[-1] * self.elapsed)

    @property
    def seconds(self) -> float:
        return (len(self.digests) - 1 + self.elapsed) * self.span.bucket_s

    def largest(self, count: int) -> list[Customer]:
        """The customers with the highest costs, then the most requests."""
        sums: dict[int, list[int]] = {}
        for digest in self.digests:
            for organization, amounts in digest.organizations.items():
                known = sums.setdefault(organization, [0, 0, 0])
                for at, amount in enumerate(amounts):
                    known[at] += amount
        found = [Customer(organization, *amounts) for organization, amounts in sums.items()]
        found.sort(key=lambda each: (-each.cost_micros, -each.requests, each.organization))
        return found[:count]


def wait_ms(digests: Iterable[Digest], share: float) -> int | None:
    """The time to first token that ``share`` of the requests did not exceed, within 2.5 %."""
    counts: Counter[int] = Counter()
    for digest in digests:
        counts.update(digest.waits)
    wanted = share * counts.total()
    seen = 0
    for wait in sorted(counts):
        seen += counts[wait]
        if seen >= wanted:
            return round(WAIT_CLASS ** (wait + 0.5))
    return None


def get_traffic(span: Span, now: datetime) -> Traffic:
    last = math.floor(now.timestamp() / span.bucket_s)
    numbers = range(last - 2 * span.buckets + 1, last + 1)
    digests = _digests(span, numbers, now)
    here = numbers[span.buckets :]
    return Traffic(
        span=span,
        starts=tuple(datetime.fromtimestamp(number * span.bucket_s, UTC) for number in here),
        digests=tuple(digests[number] for number in here),
        before=tuple(digests[number] for number in numbers[: span.buckets]),
        elapsed=(now.timestamp() - last * span.bucket_s) / span.bucket_s,
    )


def _digests(span: Span, numbers: Sequence[int], now: datetime) -> dict[int, Digest]:
    known = _read_kept(span, numbers)
    missing = [number for number in numbers if number not in known]
    if missing:
        fresh = _count(span, missing[0], missing[-1])
        known |= {number: fresh.get(number, Digest()) for number in missing}
        final = now.timestamp() - FINAL_AFTER_S
        _keep(span, {n: known[n] for n in missing if (n + 1) * span.bucket_s <= final})
    return known


def _key(span: Span, number: int) -> str:
    return f"traffic:1:{span.bucket_s}:{number}"


_decode = msgspec.msgpack.Decoder(Digest).decode


def _read_kept(span: Span, numbers: Sequence[int]) -> dict[int, Digest]:
    keys = {_key(span, number): number for number in numbers}
    try:
        return {keys[key]: _decode(kept) for key, kept in cache.get_many(keys).items()}
    except (RedisError, OSError) as error:
        log.warning("traffic.unread", extra={"error": repr(error)})
        return {}


def _keep(span: Span, digests: dict[int, Digest]) -> None:
    encoded = {_key(span, n): msgspec.msgpack.encode(each) for n, each in digests.items()}
    try:
        cache.set_many(encoded, timeout=KEPT_S)
    except (RedisError, OSError) as error:
        log.warning("traffic.unkept", extra={"error": repr(error)})


_SUMS = """
SELECT floor(extract(epoch FROM started_at) / %(bucket_s)s)::bigint,
       CASE WHEN time_to_first_token_ms IS NULL THEN %(none)s
            ELSE floor(ln(greatest(time_to_first_token_ms, 1)) / ln(%(width)s))::int END,
       count(*), count(*) FILTER (WHERE status = 'failed'),
       sum(prompt_tokens), sum(completion_tokens), sum(cost_micros)
FROM billing_usageevent
WHERE started_at >= to_timestamp(%(start)s) AND started_at < to_timestamp(%(end)s)
GROUP BY 1, 2
"""
_CUSTOMERS = """
SELECT bucket, organization_id, requests, tokens, cost FROM (
    SELECT floor(extract(epoch FROM started_at) / %(bucket_s)s)::bigint AS bucket,
           organization_id, count(*) AS requests,
           sum(prompt_tokens + completion_tokens) AS tokens, sum(cost_micros) AS cost,
           row_number() OVER (
               PARTITION BY floor(extract(epoch FROM started_at) / %(bucket_s)s)::bigint
               ORDER BY sum(cost_micros) DESC, count(*) DESC, organization_id) AS place
    FROM billing_usageevent
    WHERE started_at >= to_timestamp(%(start)s) AND started_at < to_timestamp(%(end)s)
    GROUP BY 1, 2
) AS ranked WHERE place <= %(most)s
"""


def _count(span: Span, first: int, last: int) -> dict[int, Digest]:
    """From the table, of all buckets from ``first`` to ``last``; empty ones are absent."""
    asked = {
        "bucket_s": span.bucket_s,
        "width": WAIT_CLASS,
        "none": NO_WAIT,
        "start": first * span.bucket_s,
        "end": (last + 1) * span.bucket_s,
        "most": MOST_ORGANIZATIONS,
    }
    found: dict[int, Digest] = {}
    with connection.cursor() as cursor:
        cursor.execute(_SUMS, asked)
        for number, wait, requests, failed, prompt, completion, cost in cursor.fetchall():
            digest = found.setdefault(number, Digest(waits={}, organizations={}))
            digest.requests += requests
            digest.failed += failed
            digest.prompt_tokens += int(prompt)
            digest.completion_tokens += int(completion)
            digest.cost_micros += int(cost)
            if wait != NO_WAIT:
                digest.waits[wait] = requests
        cursor.execute(_CUSTOMERS, asked)
        for number, organization, requests, tokens, cost in cursor.fetchall():
            found[number].organizations[organization] = (requests, int(tokens), int(cost))
    return found
