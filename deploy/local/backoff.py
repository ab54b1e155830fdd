"""How long to wait before starting a process again. Pure arithmetic."""

from __future__ import annotations

import random
from dataclasses import dataclass

FIRST_S = 0.5
CAP_S = 30.0
STABLE_S = 60.0  # a run this long was a good one: the next failure is a first failure


@dataclass
class Backoff:
    failures: int = 0

    def after_run(self, lasted_s: float) -> float:
        """Seconds to wait after a run of ``lasted_s``: doubled each time, capped, jittered."""
        if lasted_s >= STABLE_S:
            self.failures = 0
        # Bounded before the power: a process may fail for days.
        delay_s = min(CAP_S, FIRST_S * 2.0 ** min(self.failures, 16))
        self.failures += 1
        return delay_s * random.uniform(0.5, 1.0)
