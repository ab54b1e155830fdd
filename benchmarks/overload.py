"""Three times the load that the platform can carry: what is still served, and how the rest is told.

Simulated replicas with the timing of a measured one, streams of three service tiers. First
the most that the platform carries is found (more clients than places, each with the next
request ready); then three times as many requests arrive at moments of their own, whatever
became of those before. A request that was admitted counts as served if its first token came
within its tier's bound (``workers.engine.intake.MOST_WAIT_S``) and its last one at all.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

import uvloop

from benchmarks.arithmetic import Outcome, percentile
from benchmarks.fleet import MEASURED, customers, more_replicas, of_customer
from benchmarks.gateway import make_asks
from benchmarks.load import Ask, run_arrivals, run_load
from benchmarks.server import BenchmarkError, Server, say
from benchmarks.sizes import Sizes
from benchmarks.sluice import engine_settings, platform
from workers.engine.intake import MOST_WAIT_S

FACTOR = 3.0
# Of different lengths, so that requests that began together do not end in waves.
LENGTHS = (16, 40, 24, 48, 32)
TOKENS = sum(LENGTHS) / len(LENGTHS)
# Of ten requests, as a service with a paid tier and a cheap one might see them.
TIERS = ("priority", *("standard",) * 7, *("flex",) * 2)
REFUSED = (429, 503)
REFUSED_WITHIN_MS = 50.0


def measure(sizes: Sizes) -> dict[str, object]:
    with platform("simulated", str(MEASURED)) as server:
        places = engine_settings().max_num_seqs * sizes.overload_replicas
        (key,) = customers(1)
        asked = of_customer(server, key)
        with more_replicas(sizes.overload_replicas - 1, str(MEASURED)):
            peak = _peak_tokens_per_s(asked, places, sizes)
            say(f"peak: {peak:.0f} tokens/s")
            outcomes, began = _overload(asked, peak * FACTOR / TOKENS, sizes)
    result = summarize_overload(outcomes, began + sizes.overload_ramp_s, sizes.overload_s, peak)
    say(f"goodput {result['goodput']:.3f} of peak, refused p99 {result['refused_p99_ms']:.1f} ms")
    return {
        "replicas": sizes.overload_replicas,
        "places": places,
        "tokens": TOKENS,
        "factor": FACTOR,
        "offered_per_s": peak * FACTOR / TOKENS,
        "window_s": sizes.overload_s,
        "profile": MEASURED.name,
        **result,
    }


def asks_of_tiers(server: Server) -> Iterator[Ask]:
    """Endless streams whose tiers take turns; their label is the tier."""
    named = {"standard": "default"}
    kinds = {
        (tier, tokens): make_asks(
            server, stream=True, tokens=tokens, service_tier=named.get(tier, tier)
        )
        for tier in set(TIERS)
        for tokens in LENGTHS
    }
    # Each tier meets each length: the numbers of both have no common factor but five of ten,
    # which a shift every ten requests takes away.
    for number in itertools.count():
        tier = TIERS[number % len(TIERS)]
        tokens = LENGTHS[(number + number // len(TIERS)) % len(LENGTHS)]
        yield replace(next(kinds[tier, tokens]), label=tier)


def _peak_tokens_per_s(server: Server, places: int, sizes: Sizes) -> float:
    """Output tokens a second while there are always more than the engines have places for."""
    most_s = sizes.overload_ramp_s + sizes.overload_peak_s
    outcomes = uvloop.run(
        run_load(asks_of_tiers(server), server.url, concurrency=round(places * 1.25), most_s=most_s)
    )
    if failed := [each for each in outcomes if each.status != 200]:
        raise BenchmarkError(f"{len(failed)} failed while the peak was sought: {failed[0]}")
    began = min(each.started_at for each in outcomes) + sizes.overload_ramp_s
    ended = [each for each in outcomes if 0 <= each.ended_at - began < sizes.overload_peak_s]
    return sum(each.completion_tokens for each in ended) / sizes.overload_peak_s


def _overload(server: Server, per_s: float, sizes: Sizes) -> tuple[list[Outcome], float]:
    most_s = sizes.overload_ramp_s + sizes.overload_s
    say(f"offering {per_s:.0f} requests/s for {most_s:.0f} s")
    outcomes = uvloop.run(
        run_arrivals(asks_of_tiers(server), server.url, per_s=per_s, most_s=most_s)
    )
    return outcomes, min(each.started_at for each in outcomes)


def summarize_overload(
    outcomes: Sequence[Outcome], begin: float, window_s: float, peak_tokens_per_s: float
) -> dict[str, object]:
    """What came of the requests; goodput is of tokens of those that ended in
    the window of ``window_s`` from ``begin``."""
    unknown = [each for each in outcomes if each.status not in (200, *REFUSED)]
    served = [each for each in outcomes if each.status == 200]
    refused = [each for each in outcomes if each.status in REFUSED]
    good = [
        each
        for each in served
        if begin <= each.ended_at < begin + window_s and _first_s(each) <= MOST_WAIT_S[each.label]
    ]
    # Those before the window met queues that were still short.
    late = [each for each in outcomes if each.started_at >= begin]
    waits_ms = [(each.ended_at - each.started_at) * 1000 for each in refused]
    return {
        "peak_tokens_per_s": peak_tokens_per_s,
        "goodput": sum(each.completion_tokens for each in good) / window_s / peak_tokens_per_s,
        "served": len(served),
        "refused": len(refused),
        "failed": len(unknown),
        "failure": unknown[0].error if unknown else "",
        "refused_p50_ms": percentile(waits_ms, 0.5),
        "refused_p99_ms": percentile(waits_ms, 0.99),
        "tiers": [_tier_row(tier, late) for tier in dict.fromkeys(TIERS)],
    }


def _first_s(outcome: Outcome) -> float:
    return (outcome.first_at or outcome.ended_at) - outcome.started_at


def _tier_row(tier: str, outcomes: Sequence[Outcome]) -> dict[str, object]:
    mine = [each for each in outcomes if each.label == tier]
    firsts = [_first_s(each) for each in mine if each.status == 200]
    within = [first for first in firsts if first <= MOST_WAIT_S[tier]]
    return {
        "tier": tier,
        "offered": len(mine),
        "admitted": len(firsts),
        "target_s": MOST_WAIT_S[tier],
        "within": len(within) / len(firsts) if firsts else None,
        "p50_first_s": percentile(firsts, 0.5),
        "p95_first_s": percentile(firsts, 0.95),
        "p99_first_s": percentile(firsts, 0.99),
    }
