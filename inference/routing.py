"""Which replica runs a sequence: a pure function over what heartbeats said."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


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
    relative_cost: float = 1.0  # 1 is the dearest of the fleet
    # Measured by the replica; 0 is not known yet.
    prefill_tokens_per_s: float = 0.0
    decode_ms: float = 0.0
    kv_tokens: int = 0
    is_proven: bool = True  # a token came out of it lately

    @property
    def load(self) -> float:
        """Sequences it holds over sequences it can run; above 1 they wait.

        A heartbeat is up to half a second old, this gateway's own count is not.
        """
        return max(self.running + self.waiting, self.in_flight) / max(1, self.capacity)


def score(replica: ReplicaView, region: str, prefix_replica: str | None, weights: Weights) -> float:
    """Higher is better; each factor is between 0 and 1 times its weight."""
    total = weights.load * (1.0 - min(1.0, replica.load / 2.0))
    if not region or replica.region == region:
        total += weights.region
    if replica.state == "ready":
        total += weights.resident
    total += weights.cost * (1.0 - replica.relative_cost)
    total += weights.performance / (1.0 + replica.failures)
    if prefix_replica == replica.name and replica.load < 1.0:
        total += weights.prefix
    return total


def choose(
    replicas: Iterable[ReplicaView],
    *,
    region: str,
    must_stay_in_region: bool,
    prefix_replica: str | None,
    weights: Weights,
    excluded: frozenset[str] = frozenset(),
) -> ReplicaView | None:
    """The best ready replica, or None. Residency filters; everything else is weighed."""
    best, best_score = None, -1.0
    for replica in replicas:
        if replica.state != "ready" or replica.incarnation in excluded:
            continue
        if must_stay_in_region and region and replica.region != region:
            continue
        found = score(replica, region, prefix_replica, weights)
        if found > best_score or (
            found == best_score and best is not None and replica.load < best.load
        ):
            best, best_score = replica, found
    return best
