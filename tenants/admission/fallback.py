"""Limits while Redis is away: rates and places by this process alone, money not at all.

Which kind of limit does what is said in ``kinds.KINDS``. The buckets are those of the
scripts, kept in memory and smaller; they begin full and know nothing of other gateways.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cachetools import LRUCache

from tenants.admission import metrics
from tenants.admission.kinds import BUCKETS, CONCURRENT, KINDS, Costs
from tenants.admission.limits import Tightest, closed_limits, rate_headers, refusal
from tenants.admission.subjects import Subject
from tenants.errors import AdmissionUnavailable, LimitExceeded, RateHeaders

log = logging.getLogger(__name__)

# Of each limit. Nobody can count the gateways without Redis: up to four of them together
# stay within a limit, and forty exceed it tenfold for as long as the outage lasts.
SHARE = 0.25
# About 10 MB; who is forgotten begins with a full bucket.
SUBJECTS = 20_000
LOG_EVERY_S = 10.0
PLACE_WAIT_S = 1.0  # as in admit.lua
NOBODY = Tightest(-1, 0, 0)


@dataclass(slots=True)
class _Local:
    """One subject's buckets (ms until full, from ``seen_s`` on) and requests in flight."""

    seen_s: float
    backlogs: list[float] = field(default_factory=lambda: [0.0] * len(BUCKETS))
    running: int = 0


@dataclass(slots=True)
class _Hold:
    tokens: int
    subjects: list[tuple[Subject, _Local]]


class Fallback:
    """``admit`` when Redis did not answer; ``release`` whatever ends, held here or not."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._known: LRUCache[str, _Local] = LRUCache(SUBJECTS)
        self._holds: dict[str, _Hold] = {}
        self._logged_at = -math.inf

    def admit(
        self, subjects: Sequence[Subject], request_id: str, costs: Costs, error: Exception
    ) -> RateHeaders:
        """Hold a place and the expected tokens; LimitExceeded, or AdmissionUnavailable for money."""
        self._tell(error)
        if closed := closed_limits(subjects):
            for name in closed:
                metrics.FALLBACK.labels(name, "closed").inc()
            raise AdmissionUnavailable(
                f"Limits cannot be checked right now ({', '.join(closed)}). Try again shortly."
            ) from error
        pairs = [(s, self._local(s.key)) for s in subjects if not s.amounts.is_empty]
        self._check(pairs, costs)
        for subject, local in pairs:
            local.running += 1
            _charge(subject, local, costs)
        self._holds[request_id] = _Hold(costs.expected_tokens, pairs)
        metrics.FALLBACK.labels("any", "admitted").inc()
        return _headers(pairs)

    def release(self, request_id: str, used_tokens: int) -> None:
        hold = self._holds.pop(request_id, None)
        if hold is None:
            return
        for subject, local in hold.subjects:
            local.running -= 1
            _charge(subject, local, Costs(used_tokens - hold.tokens, 0, 0), requests=0)

    def _local(self, key: str) -> _Local:
        now = self._clock()
        local = self._known.get(key)
        if local is None:
            local = self._known[key] = _Local(now)
        elapsed_ms = 1000 * (now - local.seen_s)
        local.backlogs = [max(0.0, backlog - elapsed_ms) for backlog in local.backlogs]
        local.seen_s = now
        return local

    def _check(self, pairs: Sequence[tuple[Subject, _Local]], costs: Costs) -> None:
        longest: tuple[float, Subject, int] | None = None
        for subject, local in pairs:
            for place, wait_s in _waits(subject, local, costs):
                if longest is None or wait_s > longest[0]:
                    longest = wait_s, subject, place
        if longest is not None:
            wait_s, subject, place = longest
            metrics.FALLBACK.labels(KINDS[place].name, "refused").inc()
            raise _refused(place, subject, costs, wait_s, _headers(pairs))

    def _tell(self, error: Exception) -> None:
        now = self._clock()
        if now - self._logged_at >= LOG_EVERY_S:
            self._logged_at = now
            log.error("admission.fallback", extra={"error": repr(error)})


def _waits(subject: Subject, local: _Local, costs: Costs) -> list[tuple[int, float]]:
    """The limits that refuse, and for how many seconds; infinite is never."""
    waits = []
    for place in BUCKETS:
        limit, cost = subject.amounts.by_place[place], costs.of(place)
        if limit >= 0 and (limit == 0 or cost > limit):
            waits.append((place, math.inf))
        elif limit >= 0 and local.backlogs[place] > 0:
            # What is larger than the share waits for a full bucket and leaves a debt.
            period = KINDS[place].period_ms
            after = local.backlogs[place] + min(period, cost * period / (limit * SHARE))
            if after > period:
                waits.append((place, (after - period) / 1000))
    limit = subject.amounts.by_place[CONCURRENT]
    if limit >= 0 and local.running >= max(min(limit, 1), math.floor(limit * SHARE)):
        waits.append((CONCURRENT, PLACE_WAIT_S if limit else math.inf))
    return waits


def _charge(subject: Subject, local: _Local, costs: Costs, requests: int = 1) -> None:
    for place in BUCKETS:
        limit, kind = subject.amounts.by_place[place], KINDS[place]
        if limit > 0:
            cost = requests if kind.unit == "requests" else costs.expected_tokens
            after = local.backlogs[place] + cost * kind.period_ms / (limit * SHARE)
            local.backlogs[place] = max(0.0, after)


def _refused(
    place: int, subject: Subject, costs: Costs, wait_s: float, headers: RateHeaders
) -> LimitExceeded:
    retry_after_s = None if math.isinf(wait_s) else math.ceil(wait_s * 100) / 100
    return refusal(place, subject, costs, retry_after_s, headers)


def _headers(pairs: Sequence[tuple[Subject, _Local]]) -> RateHeaders:
    tightest = {"requests": NOBODY, "tokens": NOBODY}
    for subject, local in pairs:
        for place in BUCKETS:
            limit, kind = subject.amounts.by_place[place], KINDS[place]
            backlog = local.backlogs[place]
            left = int((kind.period_ms - backlog) * limit * SHARE / kind.period_ms)
            known = tightest[kind.unit]
            if limit >= 0 and (known.limit < 0 or left < known.remaining):
                tightest[kind.unit] = Tightest(limit, left, math.ceil(backlog))
    return rate_headers(tightest["requests"], tightest["tokens"])
