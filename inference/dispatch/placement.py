"""Where a sequence goes: its candidates' replicas weighed, and the reasons kept for people."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable

import msgspec

from inference.dispatch.sequence import Job, Sequence
from inference.fleet import Fleet
from inference.prefixes import PrefixIndex, chain
from inference.registry import Served
from inference.routing import Ask, Choice, Pool, ReplicaView, Scored, choose

DECISIONS_KEPT = 200
# How long one look at a deployment's queues is good for: 200 requests at full rate.
PRESSURE_S = 0.1
# Until a deployment's answers were measured.
SUPPOSED_ANSWER_S = 1.0
_NEWEST = 0.1
# The classes that wait longer than the policy says: one because it is meant to wait, the
# other because it goes first and waits for less than the queue looks.
_LONGER = {"flex": 3.0, "priority": 3.0}


class Decision(msgspec.Struct, frozen=True):
    """Why a sequence went where it went."""

    at: float  # Unix seconds
    request_id: str
    attempt: int
    replica: str
    how: str
    prompt_tokens: int
    prefix_tokens: int
    considered: list[Scored]

    def line(self) -> str:
        """For a response's header: how it was chosen and among what."""
        scores = " ".join(f"{each.replica.name}={each.score:.1f}" for each in self.considered[:8])
        return f"{self.how}; prefix={self.prefix_tokens}/{self.prompt_tokens}; {scores}"


class Placement:
    """One gateway's: its memory of prefixes, of how long answers take, and of its decisions."""

    def __init__(self, fleet: Fleet):
        self._fleet = fleet
        self._prefixes = PrefixIndex()
        self._answer_s: dict[int, float] = {}
        self._pressure: dict[int, tuple[float, float]] = {}
        self.recent: deque[Decision] = deque(maxlen=DECISIONS_KEPT)

    def place(self, sequence: Sequence) -> tuple[Served, ReplicaView] | None:
        """The best replica for a sequence now, or None when nobody can take it."""
        job, now = sequence.job, time.monotonic()
        blocks = chain(job.organization, job.candidates[0].version, job.prompt_ids)
        name, known = self._prefixes.find(blocks)
        ask = Ask(
            region=job.region,
            must_stay_in_region=job.must_stay_in_region,
            prefix_replica=name,
            prefix_share=known / len(job.prompt_ids) if known else 0.0,
            excluded=sequence.excluded,
        )
        for group in groups_of(job):
            pools = self._pools(group)
            weights = group[0].routing.weights
            choice = choose(pools, ask, weights, now, self._fleet.replicas.get(name))
            if choice is not None:
                if choice.how == "trial":
                    choice.replica.circuit.try_once(now)
                self._prefixes.remember(blocks, choice.replica.name)
                self._note(sequence, choice, known)
                return group[choice.pool], choice.replica
        return None

    def _pools(self, group: tuple[Served, ...]) -> list[Pool]:
        if len(group) == 1:
            return [Pool(self._fleet.listed(group[0].deployment), group[0].region)]
        dearest = max(served.cost_micros_per_hour for served in group)
        return [
            Pool(
                self._fleet.listed(served.deployment),
                served.region,
                served.cost_micros_per_hour / dearest if served.cost_micros_per_hour else 1.0,
            )
            for served in group
        ]

    def _note(self, sequence: Sequence, choice: Choice, prefix_tokens: int) -> None:
        job = sequence.job
        sequence.decision = Decision(
            at=time.time(),
            request_id=job.request_id,
            attempt=sequence.attempt,
            replica=choice.replica.name,
            how=choice.how,
            prompt_tokens=len(job.prompt_ids),
            prefix_tokens=prefix_tokens,
            considered=choice.considered,
        )
        self.recent.append(sequence.decision)

    # --- Overload ----------------------------------------------------------------------

    def learn(self, sequence: Sequence) -> None:
        """How long an answer takes once it has a place."""
        if sequence.served is not None and sequence.first_output_at is not None:
            took_s = time.monotonic() - sequence.first_output_at
            deployment = sequence.served.deployment
            before = self._answer_s.get(deployment, took_s)
            self._answer_s[deployment] = before + _NEWEST * (took_s - before)

    def excess_s(self, candidates: Iterable[Served], tier: str) -> float:
        """By how much the shortest wait is longer than this tier waits; 0 if it is not."""
        if tier == "batch":
            return 0.0
        excess = 0.0
        for served in candidates:
            longest_s = served.routing.longest_wait_s * _LONGER.get(tier, 1.0)
            over = self._wait_s(served.deployment) - longest_s
            if over <= 0.0:
                return 0.0
            excess = min(excess, over) if excess else over
        return excess

    def _wait_s(self, deployment: int) -> float:
        """Of its least busy replica; a place is free again after an answer's time (Little)."""
        now = time.monotonic()
        at, found = self._pressure.get(deployment, (0.0, 0.0))
        if now - at > PRESSURE_S:
            loads = [view.load for view in self._fleet.listed(deployment) if view.state == "ready"]
            waiting = max(0.0, min(loads, default=0.0) - 1.0)
            found = waiting * self._answer_s.get(deployment, SUPPOSED_ANSWER_S)
            self._pressure[deployment] = now, found
        return found


def groups_of(job: Job) -> list[tuple[Served, ...]]:
    """Candidates that are weighed against each other, best group first.

    Traffic weights chose their order. Only where the caller prefers a region do the
    deployments of one version compete: that preference is theirs, not the split's.
    """
    if len(job.candidates) == 1:
        return [job.candidates]
    if not job.region:
        return [(served,) for served in job.candidates]
    groups: dict[tuple[int, int | None], list[Served]] = {}
    for served in job.candidates:
        groups.setdefault((served.version, served.dedicated_to), []).append(served)
    return [tuple(group) for group in groups.values()]
