"""What a light customer waits, alone and beside others, and what equals get of a full engine.

Through the whole platform, one simulated replica with the timing of a measured one. The
light customer asks one short question after another, with pauses. It is compared with two
things: an idle engine, whose steps are shorter because nobody else is in them, and an
engine that well-behaved customers fill, whose steps are as long as under a flood.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Mapping, Sequence

import uvloop

from benchmarks.arithmetic import Outcome, jain_index, percentile
from benchmarks.fleet import MEASURED, customers, of_customer
from benchmarks.gateway import make_asks
from benchmarks.load import Ask, run_arrivals, run_load
from benchmarks.server import BenchmarkError, Server, say
from benchmarks.sizes import Sizes
from benchmarks.sluice import engine_settings, platform

TOKENS = 32
LIGHT_TOKENS = 8
PAUSE_S = 1.0
NEIGHBOURS = 8
EQUALS = 4
# The flood offers this many times what the engine can do.
FLOOD = 3.0


def measure(sizes: Sizes) -> dict[str, object]:
    with platform("simulated", str(MEASURED)) as server:
        places = engine_settings().max_num_seqs
        keys = customers(1 + max(NEIGHBOURS, EQUALS))
        light, *others = (of_customer(server, key) for key in keys)
        idle = _ask(light, [], sizes)
        # All but the eighth of the places that a worker keeps for others when one would have
        # them all: well-behaved, and as long steps as under a flood.
        beside = [_Closed(other, places * 7 // 8 // NEIGHBOURS) for other in others]
        well_behaved = _ask(light, beside, sizes)
        served = _equals(others[:EQUALS], places, sizes)
        per_s = sum(served) / TOKENS / sizes.fairness_s
        flooded = _ask(light, [_Open(others[0], per_s * FLOOD)], sizes)
    p50 = [percentile(_waits(found), 0.5) for found in (idle, well_behaved, flooded)]
    rows = [
        {"beside": name, **_row(found)}
        for name, found in (
            ("nobody", idle),
            (f"{NEIGHBOURS} well-behaved customers", well_behaved),
            (f"a flood of {FLOOD:g} times what the engine can do", flooded),
        )
    ]
    result = {
        "rows": rows,
        "against_idle": p50[2] / p50[0],
        "against_well_behaved": p50[2] / p50[1],
        "jain": jain_index(served),
        "served": served,
        "equals": EQUALS,
        "places": places,
        "peak_per_s": per_s,
        "tokens": TOKENS,
        "light_tokens": LIGHT_TOKENS,
        "profile": MEASURED.name,
    }
    say(
        f"flood against well-behaved {result['against_well_behaved']:.2f}, against idle "
        f"{result['against_idle']:.2f}; Jain {result['jain']:.4f}"
    )
    return result


class _Closed:
    """A customer with ``at_once`` requests under way at any time."""

    def __init__(self, server: Server, at_once: int):
        self.server, self.at_once = server, at_once

    async def run(self, most_s: float) -> list[Outcome]:
        asks = make_asks(self.server, stream=True, tokens=TOKENS)
        return await run_load(asks, self.server.url, concurrency=self.at_once, most_s=most_s)


class _Open:
    """A customer whose requests come at their own rate, whatever becomes of them."""

    def __init__(self, server: Server, per_s: float):
        self.server, self.per_s = server, per_s

    async def run(self, most_s: float) -> list[Outcome]:
        asks = make_asks(self.server, stream=True, tokens=TOKENS)
        return await run_arrivals(asks, self.server.url, per_s=self.per_s, most_s=most_s)


def _ask(light: Server, others: Sequence[_Closed | _Open], sizes: Sizes) -> list[Outcome]:
    """What became of the light customer's requests, once the others have filled the engine."""
    ramp_s = sizes.fairness_ramp_s if others else 0.0

    async def all_of_them() -> list[Outcome]:
        running = [asyncio.create_task(other.run(ramp_s + sizes.fairness_s)) for other in others]
        await asyncio.sleep(ramp_s)
        asked = await _one_after_another(light, sizes.fairness_s)
        await asyncio.gather(*running)
        return asked

    return uvloop.run(all_of_them())


def _waits(outcomes: Sequence[Outcome]) -> list[float]:
    """Milliseconds to each first token; who was refused has none."""
    waits = [
        ((each.first_at or each.ended_at) - each.started_at) * 1000
        for each in outcomes
        if each.status == 200
    ]
    if not waits:
        raise BenchmarkError(f"The light customer was never served: {outcomes[:1]}")
    return waits


async def _one_after_another(server: Server, most_s: float) -> list[Outcome]:
    asks = make_asks(server, stream=True, tokens=LIGHT_TOKENS)
    outcomes: list[Outcome] = []
    deadline = time.monotonic() + most_s
    while time.monotonic() < deadline:
        one: list[Ask] = list(itertools.islice(asks, 1))
        outcomes += await run_load(iter(one), server.url, concurrency=1, most_s=most_s)
        await asyncio.sleep(PAUSE_S)
    return outcomes


def _equals(servers: Sequence[Server], places: int, sizes: Sizes) -> list[int]:
    """Output tokens that each got of an engine which none of them would leave a place of."""
    ramp_s, window_s = sizes.fairness_ramp_s, sizes.fairness_s

    async def all_of_them() -> list[list[Outcome]]:
        customers = [_Closed(server, places) for server in servers]
        return await asyncio.gather(*(each.run(ramp_s + window_s) for each in customers))

    found = uvloop.run(all_of_them())
    begin = min(each.started_at for outcomes in found for each in outcomes) + ramp_s
    return [
        sum(
            each.completion_tokens
            for each in outcomes
            if each.status == 200 and begin <= each.ended_at < begin + window_s
        )
        for outcomes in found
    ]


def _row(outcomes: Sequence[Outcome]) -> Mapping[str, float]:
    waits_ms = _waits(outcomes)
    return {
        "requests": len(outcomes),
        "refused": len(outcomes) - len(waits_ms),
        "p50_ms": percentile(waits_ms, 0.5),
        "p95_ms": percentile(waits_ms, 0.95),
    }
