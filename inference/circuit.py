"""When a replica that fails stops getting work, and how it gets it back. Pure.

Closed until it failed several times in a row; then open for a while that doubles;
then half-open: one request tries it, and its end says which way to go.
"""

from __future__ import annotations

from dataclasses import dataclass

# One request that an engine cannot bear must not close a replica for everybody else's.
OPENS_AFTER = 3
OPEN_S = (2.0, 60.0)
# A trial that nobody heard the end of (its caller left) counts as not made after this.
TRIAL_S = 30.0


@dataclass(slots=True)
class Circuit:
    """One replica's, as one gateway sees it. ``now`` is monotonic."""

    failures: int = 0  # in a row
    opened_until: float = 0.0  # 0: closed
    open_s: float = OPEN_S[0]
    tried_until: float = 0.0

    @property
    def is_closed(self) -> bool:
        return not self.opened_until

    def wants_trial(self, now: float) -> bool:
        """Whether it is half-open and nobody tries it at the moment."""
        return 0.0 < self.opened_until <= now and self.tried_until <= now

    def try_once(self, now: float) -> None:
        self.tried_until = now + TRIAL_S

    def fail(self, now: float) -> None:
        self.failures += 1
        if self.opened_until:
            if self.tried_until > now:  # the trial failed
                self.open_s = min(OPEN_S[1], self.open_s * 2)
                self._open(now)
        elif self.failures >= OPENS_AFTER:
            self._open(now)

    def succeed(self) -> None:
        if self.failures:
            self.failures, self.opened_until, self.tried_until = 0, 0.0, 0.0
            self.open_s = OPEN_S[0]

    def _open(self, now: float) -> None:
        self.opened_until, self.tried_until = now + self.open_s, 0.0
