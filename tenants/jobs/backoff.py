"""How long a failed attempt waits for the next one. Pure."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True)
class Backoff:
    """Pauses from ``first_s`` on, each ``factor`` times the one before, up to ``longest_s``;
    a random half of each spreads those that failed together."""

    first_s: float
    factor: float
    longest_s: float

    def wait_after(self, attempt: int, chance: float | None = None) -> timedelta:
        """``chance`` from 0 to 1 is drawn if it is not given."""
        drawn = random.random() if chance is None else chance  # noqa: S311 - spreads, hides nothing
        whole = min(self.longest_s, self.first_s * self.factor ** min(attempt - 1, 20))
        return timedelta(seconds=whole * (0.5 + drawn / 2))


LONGEST_S = 600.0
_OF_JOBS = Backoff(first_s=2.0, factor=2.0, longest_s=LONGEST_S)
wait_after = _OF_JOBS.wait_after
