"""Whether the engine's time that usage was charged adds up to the time that passed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.arithmetic import Outcome
from benchmarks.sluice import charged_engine_s, replica_metric

ENGINE_S = "sluice_replica_engine_seconds_total"


def measure(load: Callable[[], Sequence[Outcome]], replica: str = "chat-1") -> dict[str, object]:
    """``load`` must keep the engine busy from its first request to its last answer, and
    nothing else may run. ``engine_s`` is what the replica's steps took; the clients' clock
    also holds the way there and back, when the engine has nothing to do."""
    before, steps_before = charged_engine_s(), replica_metric(replica, ENGINE_S)
    outcomes = load()
    charged_s = charged_engine_s() - before
    engine_s = replica_metric(replica, ENGINE_S) - steps_before
    wall_s = max(o.ended_at for o in outcomes) - min(o.started_at for o in outcomes)
    return {
        "requests": len(outcomes),
        "charged_s": charged_s,
        "engine_s": engine_s,
        "wall_s": wall_s,
        "share_of_engine": charged_s / engine_s,
        "share_of_wall": charged_s / wall_s,
    }
