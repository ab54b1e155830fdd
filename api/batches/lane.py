"""One model's line of batch work: how much of it may be at the replicas. Pure but for a clock."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterable

from inference.batches.lines import HeldLine
from inference.routing import ReplicaView

# Of what the replicas can run at once: what waits beside them keeps every place filled, and
# is passed by whatever is more urgent.
AHEAD = 2.0
# Claimed beyond that, so that a claim's round trip starves nobody.
CLAIMED_AHEAD = 1.0
LEAST_FACTOR, GROWTH = 1 / 16, 1.25
ADJUSTED_EVERY_S = 1.0


class Lane:
    """``window`` follows the fleet; a refusal halves it, a second without one lets it grow."""

    def __init__(self, model: str, most: int):
        self.model = model
        self.running = 0
        self.waiting: deque[HeldLine] = deque()  # claimed
        self.ready: deque[tuple[HeldLine, bytes]] = deque()  # and read
        self.window = 0
        self._most = most
        self._factor = 1.0
        self._adjusted_at = 0.0

    def adjust(self, replicas: Iterable[ReplicaView], now: float | None = None) -> None:
        now = time.monotonic() if now is None else now
        if now - self._adjusted_at >= ADJUSTED_EVERY_S:
            self._adjusted_at = now
            self._factor = min(1.0, self._factor * GROWTH)
        places = sum(view.capacity for view in replicas if view.state == "ready")
        self.window = min(self._most, math.ceil(places * AHEAD * self._factor))

    def refused(self, now: float | None = None) -> None:
        """A replica had no room: ask for half, at most once a second."""
        now = time.monotonic() if now is None else now
        if now - self._adjusted_at >= ADJUSTED_EVERY_S:
            self._adjusted_at = now
            self._factor = max(LEAST_FACTOR, self._factor / 2)
            self.window = math.ceil(self.window / 2)

    @property
    def room(self) -> int:
        """How many more may be at the replicas."""
        return max(0, self.window - self.running)

    @property
    def wanted(self) -> int:
        """How many more lines to claim."""
        most = math.ceil(self.window * (1 + CLAIMED_AHEAD))
        return max(0, most - self.running - len(self.waiting) - len(self.ready))
