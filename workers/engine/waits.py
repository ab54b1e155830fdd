"""How long sequences waited lately before they entered the engine. Pure."""

from __future__ import annotations

from collections import deque

# What is older says nothing of the queue as it is; what is more than these, little.
WINDOW_S = 60.0
KEPT = 256


class RecentWaits:
    """``now`` is any monotonic clock in seconds, the same in every call."""

    def __init__(self) -> None:
        self._waits: deque[tuple[float, float]] = deque(maxlen=KEPT)

    def add(self, now: float, waited_s: float) -> None:
        self._waits.append((now, waited_s))

    def p95_ms(self, now: float) -> float:
        """The wait that 95 in 100 did not exceed; 0 of none."""
        while self._waits and self._waits[0][0] < now - WINDOW_S:
            self._waits.popleft()
        if not self._waits:
            return 0.0
        waits = sorted(waited_s for _, waited_s in self._waits)
        return waits[min(len(waits) - 1, len(waits) * 95 // 100)] * 1000
