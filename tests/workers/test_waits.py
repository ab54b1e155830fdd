"""How long sequences waited lately: the figure that heartbeats carry."""

from __future__ import annotations

from workers.engine.waits import KEPT, WINDOW_S, RecentWaits


def test_it_is_the_wait_that_95_in_100_did_not_exceed() -> None:
    waits = RecentWaits()
    assert waits.p95_ms(0.0) == 0.0
    for number in range(100):
        waits.add(0.0, number / 1000)
    assert waits.p95_ms(0.0) == 95.0


def test_old_waits_and_those_beyond_the_bound_are_forgotten() -> None:
    waits = RecentWaits()
    waits.add(0.0, 9.0)
    assert waits.p95_ms(WINDOW_S) == 9000.0
    assert waits.p95_ms(WINDOW_S + 0.1) == 0.0
    for _ in range(KEPT):
        waits.add(100.0, 2.0)
    for _ in range(KEPT):
        waits.add(100.0, 1.0)
    assert waits.p95_ms(100.0) == 1000.0
