"""The part of ``benchmarks.routing`` that imports the platform; Django must be set up."""

from __future__ import annotations

import gc
import random
import time
from statistics import median
from typing import Any

from benchmarks.server import say
from benchmarks.sizes import Sizes
from inference.dispatch.placement import Placement
from inference.dispatch.sequence import Job, Sequence
from inference.fleet import Fleet
from inference.registry import Served
from inference.wire import Heartbeat, Sampling

REPLICAS = (1, 8, 16, 100, 1_000, 10_000)
PROMPT_TOKENS = (50, 1_000)
CAPACITY = 64
VOCABULARY = 50_000


def decide(sizes: Sizes) -> dict[str, object]:
    """Microseconds of CPU a decision, the median of rounds, for each fleet and prompt."""
    rows = []
    for replicas in REPLICAS:
        fleet = _fleet(replicas)
        found = {
            tokens: median(_round(fleet, tokens, sizes) for _ in range(sizes.routing_rounds))
            for tokens in PROMPT_TOKENS
        }
        rows.append({"replicas": replicas, "us": {str(key): us for key, us in found.items()}})
        say(f"{replicas} replicas: {', '.join(f'{us:.1f} us at {n}' for n, us in found.items())}")
    return {
        "rows": rows,
        "decisions": sizes.routing_decisions,
        "rounds": sizes.routing_rounds,
        "prompt_tokens": PROMPT_TOKENS,
    }


def _round(fleet: Fleet, tokens: int, sizes: Sizes) -> float:
    placement, served = Placement(fleet), served_of(None)
    system = [random.randrange(VOCABULARY) for _ in range(tokens // 2)]
    sequences = [
        Sequence(_job(served, system, tokens, number)) for number in range(sizes.routing_decisions)
    ]
    # A gateway freezes what it started with; here the sequences made beforehand are that.
    gc.collect()
    gc.freeze()
    began = time.process_time()
    for sequence in sequences:
        placement.place(sequence)
    took_s = time.process_time() - began
    gc.unfreeze()
    return took_s / len(sequences) * 1e6


def _job(served: Served, system: list[int], tokens: int, number: int) -> Job:
    """Half of each prompt is shared, as system prompts are; the rest is its own."""
    own = [random.randrange(VOCABULARY) for _ in range(tokens - len(system))]
    return Job(
        request_id=f"{number}/0.0",
        organization=number % 100,
        weight=1,
        prompt_ids=system + own,
        sampling=Sampling(),
        cache_salt="",
        candidates=(served,),
    )


def _fleet(count: int) -> Fleet:
    fleet = Fleet(None, lambda _view, _before: None)  # type: ignore[arg-type]
    for number in range(count):
        fleet.accept(
            Heartbeat(
                replica=f"replica-{number}",
                incarnation=f"life-{number}",
                deployment=1,
                version=1,
                state="ready",
                engine="none",
                node="here",
                started_at=time.time(),
                running=random.randrange(CAPACITY),
                capacity=CAPACITY,
                decode_ms=random.uniform(10, 20),
            )
        )
    return fleet


def served_of(renderer: Any) -> Served:
    """A deployment as the registry knows one."""
    return Served(
        deployment=1,
        name="benchmark",
        version=1,
        version_label="benchmark@1",
        region="local",
        batching_profile="latency",
        traffic_weight=100,
        max_context_tokens=4096,
        embedding_dimensions=None,
        renderer=renderer,
    )
