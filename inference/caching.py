"""An organization's caching in figures and in advice, for its own people and programs."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import redis
from django.conf import settings

from inference.cache_analysis import WINDOWS_H, day_key
from tenants.models import Organization, SemanticCache

REPORT_DAYS = 7
# Fewer requests say nothing.
LEAST_REQUESTS = 100
# A saving below this share of requests is not worth a word.
WORTH_SHARE = 0.02
# A shorter window is preferred if it has this much of what the longest would have.
_ENOUGH = 0.9
# Beginnings that repeat and that no engine had: above this share of prompt tokens.
_LOST_PREFIX = 0.2


@dataclass(frozen=True)
class Potential:
    """What keeping answers for ``hours`` would have saved, estimated from a sample."""

    hours: int
    requests: int
    share: float  # of all requests
    completion_tokens: int
    micros: int


@dataclass(frozen=True)
class Advice:
    """``code`` is for programs, ``text`` for people."""

    code: str
    text: str
    response_cache_ttl_s: int | None = None


@dataclass(frozen=True)
class CachingReport:
    """The last ``REPORT_DAYS`` days (UTC, today included); estimates, but for nothing."""

    days: int
    requests: int
    hits: int
    fixed: int  # requests whose answer is the same every time
    prompt_tokens: int
    cached_tokens: int  # of the prompts, found in an engine's KV cache
    known_tokens: int  # of the prompts, beginnings that had been asked before
    exact: tuple[Potential, ...]
    alike: tuple[Potential, ...]
    advice: tuple[Advice, ...] = ()

    @property
    def hit_share(self) -> float:
        return self.hits / self.requests if self.requests else 0.0

    @property
    def cached_share(self) -> float:
        return self.cached_tokens / self.prompt_tokens if self.prompt_tokens else 0.0

    @property
    def known_share(self) -> float:
        return self.known_tokens / self.prompt_tokens if self.prompt_tokens else 0.0


def get_caching_report(organization: Organization, now: float | None = None) -> CachingReport:
    """Raises redis.RedisError."""
    now = time.time() if now is None else now
    keys = [day_key(organization.pk, now - 86_400 * day) for day in range(REPORT_DAYS)]
    client = redis.Redis.from_url(
        settings.REDIS_URL,
        socket_timeout=settings.REDIS_TIMEOUT_S,
        socket_connect_timeout=settings.REDIS_TIMEOUT_S,
    )
    with client, client.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.hgetall(key)
        days = pipe.execute()
    sums: dict[str, int] = {}
    for day in days:
        for name, value in day.items():
            sums[name.decode()] = sums.get(name.decode(), 0) + int(value)
    return report_of(sums, organization.response_cache_ttl_s, organization.semantic_cache)


def report_of(sums: dict[str, int], ttl_s: int, semantic: str) -> CachingReport:
    """Pure; ``sums`` are the days' of ``inference.cache_analysis``."""
    bare = CachingReport(
        days=REPORT_DAYS,
        requests=sums.get("requests", 0),
        hits=sums.get("hits", 0),
        fixed=sums.get("fixed", 0),
        prompt_tokens=sums.get("prompt_tokens", 0),
        cached_tokens=sums.get("cached_tokens", 0),
        known_tokens=sums.get("known_tokens", 0),
        exact=_potentials("exact", sums),
        alike=_potentials("alike", sums),
    )
    return replace(bare, advice=_advice(bare, ttl_s, semantic))


def _potentials(kind: str, sums: dict[str, int]) -> tuple[Potential, ...]:
    requests = sums.get("requests", 0)
    return tuple(
        Potential(
            hours=hours,
            requests=(found := sums.get(f"{kind}_{hours}h", 0)),
            share=found / requests if requests else 0.0,
            completion_tokens=sums.get(f"{kind}_{hours}h_tokens", 0),
            micros=sums.get(f"{kind}_{hours}h_micros", 0),
        )
        for hours in WINDOWS_H
    )


def _advice(report: CachingReport, ttl_s: int, semantic: str) -> tuple[Advice, ...]:
    if report.requests < LEAST_REQUESTS:
        return ()
    advice = [_advise_exact(report, ttl_s), _advise_semantic(report, semantic)]
    if report.known_share - report.cached_share > _LOST_PREFIX:
        advice.append(
            Advice(
                "prefix",
                f"{report.known_share:.0%} of your prompts' tokens begin as earlier prompts did, "
                f"and {report.cached_share:.0%} were found in a cache. Put what is always the "
                "same (instructions, documents) first and what changes last, and ask in bursts.",
            )
        )
    return tuple(each for each in advice if each is not None)


def _advise_exact(report: CachingReport, ttl_s: int) -> Advice | None:
    best = report.exact[-1]
    if best.share < WORTH_SHARE:
        return None
    enough = next(each for each in report.exact if each.requests >= _ENOUGH * best.requests)
    wanted_s = enough.hours * 3600
    if ttl_s >= wanted_s:
        return None
    change = "Turn the response cache on and keep" if not ttl_s else "Keep"
    unit = "hour" if enough.hours == 1 else "hours"
    return Advice(
        "exact",
        f"{change} answers for {enough.hours} {unit}: {enough.share:.0%} of your requests repeat "
        "an earlier one within that time, to the letter and with a fixed answer.",
        response_cache_ttl_s=wanted_s,
    )


def _advise_semantic(report: CachingReport, semantic: str) -> Advice | None:
    best = report.alike[-1]
    if semantic != SemanticCache.OFF or best.share < WORTH_SHARE:
        return None
    return Advice(
        "semantic",
        f"Try the semantic cache for requests that ask for it: at least {best.share:.0%} of your "
        "requests have the same words as an earlier one, in another order or form.",
    )
