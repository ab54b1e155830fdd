"""Whether the engine lives, by what it makes: tokens, not a health page. Pure.

Engines die while their health page stays green. While anything runs, its steps are the
proof; while nothing runs, a probe of one token is, every ``probe_every_s``. An engine
that owes progress and makes none is unproven after ``UNPROVEN_S`` (gateways route
elsewhere) and dead after ``DEAD_S`` (the process ends, and a clean one starts), each
plus the time that its longest step may take. One that computes all the while may be
compiling a kernel for the first request of its kind: it has ``DEAD_COMPUTING_S``.
"""

from __future__ import annotations

import enum

from inference.engine_protocol import PROBE_EVERY_S

# 5 s until the probe and 5 s for its answer: out of rotation within 15 s in the worst
# case, a heartbeat and a slow scheduler included.
UNPROVEN_S = 5.0
DEAD_S = 12.0
DEAD_COMPUTING_S = 60.0
MOST_LISTENED_S = 1.0


class Verdict(enum.Enum):
    PROVEN = "proven"
    PROBE = "probe"  # proven, but long ago: have it make a token
    UNPROVEN = "unproven"
    DEAD = "dead"


class Liveness:
    """``now`` is any monotonic clock, the same in every call."""

    def __init__(self, now: float):
        self._proven_at = self._judged_at = now
        self._silent_s = 0.0
        self.probe_every_s = PROBE_EVERY_S

    def progressed(self, now: float) -> None:
        """A step was made, or a token came out."""
        self._proven_at = now
        self._silent_s = 0.0

    def judge(
        self,
        now: float,
        *,
        has_work: bool,
        patience_s: float = 0.0,
        is_computing: bool = False,
    ) -> Verdict:
        """Call every half second; ``has_work`` counts a probe that is under way."""
        # A process that stood still for minutes has not listened: what the engine said
        # meanwhile is still to be read.
        listened_s = min(now - self._judged_at, MOST_LISTENED_S)
        self._judged_at = now
        if not has_work:
            self._silent_s = 0.0
            is_old = now - self._proven_at >= self.probe_every_s
            return Verdict.PROBE if is_old else Verdict.PROVEN
        self._silent_s += listened_s
        silent_s = self._silent_s - patience_s
        if silent_s >= (DEAD_COMPUTING_S if is_computing else DEAD_S):
            return Verdict.DEAD
        return Verdict.UNPROVEN if silent_s >= UNPROVEN_S else Verdict.PROVEN
