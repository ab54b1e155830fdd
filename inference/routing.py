"""Which replica runs a sequence: a pure function over what heartbeats said.

A few replicas are all scored; of many, a random few of each pool are (the power
of d choices: the best of eight is nearly as good as the best of all, and costs
the same among ten replicas and ten thousand).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from random import random
from typing import NamedTuple

import msgspec

from inference.circuit import Circuit

# Up to here a pool is scored whole: some 0.5 µs a replica.
SCORED_WHOLE = 16
SAMPLED = 8
# A new replica compiles, warms its caches and proves itself on a growing share of its places.
SLOW_START_S = 10.0
SLOW_START_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Weights:
    """Share of each factor in a replica's score; design.md section 4 step 8."""

    region: float = 30.0
    load: float = 25.0
    resident: float = 20.0
    cost: float = 15.0
    performance: float = 10.0
    prefix: float = 12.0


@dataclass(slots=True)
class ReplicaView:
    """A live replica as a gateway sees it; the fleet updates it in place."""

    name: str
    incarnation: str
    deployment: int
    version: int
    region: str
    state: str
    running: int
    waiting: int
    capacity: int
    seen_at: float  # the gateway's monotonic clock
    in_flight: int = 0  # sequences of this gateway on it
    failures: float = 0.0  # decaying count of recent errors
    speed: float = 1.0  # the fastest sibling's time of a step over its own
    ready_at: float = -SLOW_START_S  # when it became ready; slow start counts from there
    circuit: Circuit = field(default_factory=Circuit)
    empty_since: float | None = None  # since when its heartbeats say that it holds nothing
    # Measured by the replica; 0 is not known yet.
    prefill_tokens_per_s: float = 0.0
    decode_ms: float = 0.0
    kv_tokens: int = 0
    is_proven: bool = True  # a token came out of it lately
    bypass: str = ""  # where it is reached without Redis

    @property
    def load(self) -> float:
        """Sequences it holds over sequences it can run; above 1 they wait.

        A heartbeat is up to half a second old, this gateway's own count is not.
        """
        held = self.running + self.waiting
        return (held if held > self.in_flight else self.in_flight) / (self.capacity or 1)


class Pool(msgspec.Struct, frozen=True):
    """One deployment's replicas, and what is the same for all of them."""

    replicas: Sequence[ReplicaView]
    region: str = ""
    relative_cost: float = 1.0  # 1 is the dearest of those that may answer


class Ask(msgspec.Struct, frozen=True):
    """What a sequence wants of its replica."""

    region: str = ""
    must_stay_in_region: bool = False
    prefix_replica: str = ""
    prefix_share: float = 0.0  # how much of the prompt that replica has
    excluded: Collection[str] = frozenset()  # incarnations


class Scored(NamedTuple):
    """One replica that was considered, with the parts of its score."""

    replica: ReplicaView
    score: float
    load: float
    prefix: float


class Choice(msgspec.Struct, frozen=True):
    """``how``: scored, sampled, trial (half-open) or last_resort (none other lives)."""

    replica: ReplicaView
    pool: int
    how: str
    considered: list[Scored]


def score(view: ReplicaView, ask: Ask, base: float, weights: Weights, now: float) -> Scored:
    """Higher is better; each factor is between 0 and 1 times its weight.

    ``base`` is what its pool has in common: ``base_of``.
    """
    held = view.running + view.waiting  # as in ``load``: a call less for each replica
    load = (held if held > view.in_flight else view.in_flight) / (view.capacity or 1)
    warm_s = now - view.ready_at
    if warm_s < SLOW_START_S:
        load /= max(SLOW_START_SHARE, warm_s / SLOW_START_S)
    total = base + weights.performance * view.speed / (1.0 + view.failures)
    if load < 2.0:
        total += weights.load * (1.0 - load * 0.5)
    prefix = 0.0
    if load < 1.0 and ask.prefix_replica == view.name:
        prefix = weights.prefix * ask.prefix_share
    return Scored(view, total + prefix, load, prefix)


def base_of(pool: Pool, ask: Ask, weights: Weights) -> float:
    """What all ready replicas of a pool score alike; being ready, the model is resident."""
    total = weights.resident + weights.cost * (1.0 - pool.relative_cost)
    if not ask.region or pool.region == ask.region:
        total += weights.region
    return total


def choose(
    pools: Sequence[Pool],
    ask: Ask,
    weights: Weights,
    now: float,
    prefix_view: ReplicaView | None = None,
) -> Choice | None:
    """The best ready replica of all pools, or None. Residency filters; all else is weighed.

    Replicas with an open circuit or an engine that proved nothing lately get work only
    if no other lives, but for the one request that tries a half-open one.
    """
    considered: list[Scored] = []
    best: Scored | None = None
    chosen_pool = 0
    is_sampled, excluded = False, ask.excluded
    for index, pool in enumerate(pools):
        if ask.must_stay_in_region and ask.region and pool.region != ask.region:
            continue
        base = base_of(pool, ask, weights)
        looked_at = _sample(pool.replicas, prefix_view)
        is_sampled = is_sampled or looked_at is not pool.replicas
        for view in looked_at:
            if view.state != "ready" or (excluded and view.incarnation in excluded):
                continue
            if view.circuit.opened_until:
                if view.circuit.wants_trial(now):
                    found = score(view, ask, base, weights, now)
                    return Choice(view, index, "trial", [*considered, found])
                continue
            if not view.is_proven:
                continue
            found = score(view, ask, base, weights, now)
            considered.append(found)
            if (
                best is None
                or found.score > best.score
                or (found.score == best.score and _is_freer(found, best))
            ):
                best, chosen_pool = found, index
    if best is not None:
        return Choice(best.replica, chosen_pool, "sampled" if is_sampled else "scored", considered)
    return _last_resort(pools, ask, weights, now)


def _sample(
    replicas: Sequence[ReplicaView], prefix_view: ReplicaView | None
) -> Sequence[ReplicaView]:
    count = len(replicas)
    if count <= SCORED_WHOLE:
        return replicas
    sampled = [replicas[int(random() * count)] for _ in range(SAMPLED)]  # noqa: S311
    if prefix_view is not None and prefix_view.deployment == replicas[0].deployment:
        sampled.append(prefix_view)
    return sampled


def _is_freer(found: Scored, best: Scored) -> bool:
    """Of two that score alike."""
    # Gateways that all took the first of two alike would meet on it.
    return found.load < best.load or (found.load == best.load and random() < 0.5)  # noqa: S311


def _last_resort(pools: Sequence[Pool], ask: Ask, weights: Weights, now: float) -> Choice | None:
    """All of them, the good ones first: a sample may have missed the few that there are."""
    considered: list[tuple[bool, Scored, int]] = []
    for index, pool in enumerate(pools):
        if ask.must_stay_in_region and ask.region and pool.region != ask.region:
            continue
        base = base_of(pool, ask, weights)
        for view in pool.replicas:
            if view.state == "ready" and view.incarnation not in ask.excluded:
                is_good = view.circuit.is_closed and view.is_proven
                considered.append((is_good, score(view, ask, base, weights, now), index))
    if not considered:
        return None
    is_good, best, index = max(considered, key=lambda each: (each[0], each[1].score))
    how = "scored" if is_good else "last_resort"
    return Choice(best.replica, index, how, [scored for _, scored, _ in considered[:SAMPLED]])
