"""Who has how much of what is under way here: so that a flood is refused and a guest is not.

The forecast of a wait knows queues, not whose they are. A replica's own queue is fair
(``workers.engine.fair_queue``): whoever has less than their share of it is served long
before the flood that filled it, so they are not refused on its account.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterable

from inference.dispatch.sequence import Sequence

# How long one count is good for: whoever is refused costs a look at a counter, not at all
# that is under way.
COUNTED_S = 0.1


class Shares:
    """Of the sequences of one gateway, by deployment and organization."""

    def __init__(self, sequences: Collection[Sequence]):
        self._sequences = sequences
        self._counted_at = 0.0
        self._running: dict[int, Counter[int]] = {}
        self._weights: dict[int, int] = {}

    def is_below(self, deployments: Iterable[int], organization: int, weight: int) -> bool:
        """Whether this organization has less under way there than its weight entitles it to."""
        self._count()
        running: Counter[int] = Counter()
        for deployment in deployments:
            running.update(self._running.get(deployment, {}))
        own = running.pop(organization, 0)
        if not running:  # alone: whatever waits is its own, or comes by other gateways
            return own == 0
        weights = weight + sum(self._weights[each] for each in running)
        return own * weights < (own + running.total()) * weight

    def _count(self) -> None:
        now = time.monotonic()
        if now - self._counted_at < COUNTED_S:
            return
        self._counted_at = now
        self._running, self._weights = {}, {}
        for sequence in self._sequences:
            if sequence.served is not None:
                job = sequence.job
                counter = self._running.setdefault(sequence.served.deployment, Counter())
                counter[job.organization] += 1
                self._weights[job.organization] = max(1, job.weight)
