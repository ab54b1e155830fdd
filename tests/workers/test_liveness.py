"""Whether an engine lives: by its tokens, within bounds, and not by a stopped clock."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.wire import Delta, Submission
from tests.workers.factory import make_submission
from workers.engine import watch as watches
from workers.engine.intake import Running
from workers.engine.liveness import (
    DEAD_COMPUTING_S,
    DEAD_S,
    PROBE_EVERY_S,
    UNPROVEN_S,
    Liveness,
    Verdict,
)
from workers.engine.speed import Speed
from workers.engine.watch import TICK_S, Watch


def verdict_after(silent_s: float, **how: object) -> Verdict:
    liveness = Liveness(0.0)
    for tick in itertools.count(1):
        verdict = liveness.judge(tick * TICK_S, has_work=True, **how)  # type: ignore[arg-type]
        if tick * TICK_S >= silent_s:
            return verdict
    raise AssertionError


def test_silence_with_work_is_unproven_then_death() -> None:
    assert verdict_after(UNPROVEN_S - TICK_S) is Verdict.PROVEN
    assert verdict_after(UNPROVEN_S) is Verdict.UNPROVEN
    assert verdict_after(DEAD_S - TICK_S) is Verdict.UNPROVEN
    assert verdict_after(DEAD_S) is Verdict.DEAD


def test_a_long_step_is_waited_for() -> None:
    assert verdict_after(UNPROVEN_S + 29, patience_s=30) is Verdict.PROVEN
    assert verdict_after(DEAD_S + 30, patience_s=30) is Verdict.DEAD


def test_an_engine_that_computes_may_be_compiling() -> None:
    assert verdict_after(DEAD_S + 1, is_computing=True) is Verdict.UNPROVEN
    assert verdict_after(DEAD_COMPUTING_S, is_computing=True) is Verdict.DEAD


def test_an_idle_engine_is_probed_now_and_then_and_a_busy_one_never() -> None:
    liveness = Liveness(0.0)
    assert liveness.judge(PROBE_EVERY_S - 1, has_work=False) is Verdict.PROVEN
    assert liveness.judge(PROBE_EVERY_S, has_work=False) is Verdict.PROBE
    liveness.progressed(PROBE_EVERY_S + 1)
    assert liveness.judge(PROBE_EVERY_S + 2, has_work=False) is Verdict.PROVEN
    for second in range(10, 100):
        liveness.progressed(second)
        assert liveness.judge(second + 0.5, has_work=True) is Verdict.PROVEN


def test_a_process_that_stood_still_does_not_take_its_engine_for_dead() -> None:
    liveness = Liveness(0.0)
    liveness.judge(1.0, has_work=True)

    assert liveness.judge(600.0, has_work=True) is Verdict.PROVEN


@given(st.lists(st.floats(0.0, 2.0), max_size=60))
def test_out_of_rotation_within_15_s_of_any_death(gaps: list[float]) -> None:
    """Idle or busy, wherever it dies: a probe is sent, and nothing comes back."""
    now, liveness, has_work = 0.0, Liveness(0.0), False
    for gap in gaps:
        now += gap
        liveness.progressed(now)
    died_at = now
    while True:
        now += TICK_S
        verdict = liveness.judge(now, has_work=has_work)
        if verdict is Verdict.UNPROVEN:
            break
        has_work = has_work or verdict is Verdict.PROBE

    assert now - died_at <= 15.0 - TICK_S  # a heartbeat later all gateways know


# --- The watch ---------------------------------------------------------------------------


class Engine:
    """What a watch is given: takes probes, and is found dead."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, is_embedding: bool = False):
        self.now = 0.0
        monkeypatch.setattr(watches.time, "monotonic", lambda: self.now)
        self.probes: list[Submission] = []
        self.deaths: list[BaseException] = []
        self.running: dict[str, Running] = {}
        self.preparing = 0
        self.watch = Watch(
            self.running,
            Speed(),
            self.probes.append,
            self.deaths.append,
            preparing=lambda: self.preparing,
            is_embedding=is_embedding,
        )

    def pass_s(self, seconds: float) -> None:
        for _ in range(int(seconds / TICK_S)):
            self.now += TICK_S
            self.watch.tick()


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    return Engine(monkeypatch)


def answer(probe: Submission) -> Delta:
    return Delta(probe.engine_id, 0, 0, [5], "x", finish_reason="length")


def test_an_idle_engine_makes_a_token_every_few_seconds(engine: Engine) -> None:
    for _ in range(20):
        engine.pass_s(1)
        for probe in engine.probes[-1:]:
            engine.watch.took(answer(probe))

    assert len(engine.probes) == pytest.approx(20 / PROBE_EVERY_S, abs=1)
    assert engine.watch.is_proven and not engine.deaths
    sampling = engine.probes[0].sampling
    assert sampling is not None and sampling.max_tokens == 1


def test_an_embedding_engine_is_asked_for_a_vector(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(monkeypatch, is_embedding=True)
    engine.pass_s(PROBE_EVERY_S)

    assert [probe.sampling for probe in engine.probes] == [None]
    vector = Delta(engine.probes[0].engine_id, 0, 0, [], "", finish_reason="stop", embedding=b"1")
    assert engine.watch.took(vector)


def test_nothing_is_owed_for_what_is_prepared_and_an_idle_engine_shows_that_it_lives(
    engine: Engine,
) -> None:
    """A grammar that takes half a minute to compile elsewhere ends no engine."""
    engine.running["a"] = Running(make_submission(), 0, 0.0, 10)
    engine.preparing = 1
    for _ in range(30):
        engine.pass_s(1)
        for probe in engine.probes[-1:]:
            engine.watch.took(answer(probe))
    assert engine.watch.is_proven and not engine.deaths and engine.probes

    engine.preparing = 0
    engine.pass_s(DEAD_S + 5)
    assert engine.deaths


def test_a_probe_without_an_answer_ends_the_engine(engine: Engine) -> None:
    engine.pass_s(PROBE_EVERY_S + UNPROVEN_S + 1)
    assert not engine.watch.is_proven and not engine.deaths
    engine.pass_s(DEAD_S)

    assert engine.deaths and len(engine.probes) == 1


def test_an_engine_that_comes_back_in_time_is_proven_again(engine: Engine) -> None:
    engine.pass_s(PROBE_EVERY_S + UNPROVEN_S + 1)
    engine.watch.took(answer(engine.probes[0]))
    engine.pass_s(1)

    assert engine.watch.is_proven and not engine.deaths


def test_a_probes_refusal_is_no_proof(engine: Engine) -> None:
    engine.pass_s(PROBE_EVERY_S)
    refusal = Delta(engine.probes[0].engine_id, 0, 0, [], "", finish_reason="error", error="x")

    assert engine.watch.took(refusal)
    engine.pass_s(UNPROVEN_S + 1)
    assert not engine.watch.is_proven


def test_outputs_of_others_are_not_the_probes(engine: Engine) -> None:
    engine.pass_s(PROBE_EVERY_S)

    assert not engine.watch.took(Delta("req-1#1", 0, 0, [5], "x"))


def test_long_prompts_give_the_engine_time(engine: Engine) -> None:
    submission = make_submission(prompt_tokens=4_000)
    engine.running[submission.engine_id] = Running(submission, 0, 0.0, 4_000)
    engine.pass_s(2 * 4_000 / watches.UNKNOWN_PREFILL_TOKENS_PER_S)

    assert engine.watch.is_proven and not engine.deaths
