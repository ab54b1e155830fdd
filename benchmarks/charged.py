"""Whether the engine's time that usage was charged adds up to the time that passed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.arithmetic import Outcome
from benchmarks.sluice import charged_engine_s


def measure(load: Callable[[], Sequence[Outcome]]) -> dict[str, object]:
    """``load`` must keep the engine busy from its first request to its last answer, and
    nothing else may run. The clients' clock also holds the way there and back."""
    before = charged_engine_s()
    outcomes = load()
    charged_s = charged_engine_s() - before
    wall_s = max(o.ended_at for o in outcomes) - min(o.started_at for o in outcomes)
    return {
        "requests": len(outcomes),
        "charged_s": charged_s,
        "wall_s": wall_s,
        "share": charged_s / wall_s,
    }
