"""What a replica takes, refuses at once, and gives its engine."""

from __future__ import annotations

from itertools import takewhile

import pytest

from inference.engine_protocol import Step
from inference.wire import Sampling, Submission
from tests.workers.factory import make_submission
from workers.engine import intake as intakes
from workers.engine.intake import MOST_WAIT_S, Intake, Running
from workers.engine.speed import Speed

FLOOD, LIGHT = 1, 2


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(intakes, "time", clock)
    return clock


def measured() -> Speed:
    """1,000 prompt tokens/s, and steps of 100 ms whatever runs."""
    speed = Speed()
    for _ in range(10):
        speed.learn(Step(1.0, (), {"x": 1_000}, 1_000))
        speed.learn(Step(0.1, ["x"]))
    return speed


def started(intake: Intake) -> list[Running]:
    return list(takewhile(lambda each: each is not None, iter(intake.next, object())))  # type: ignore[arg-type]


def ids(found: list[Running]) -> list[str]:
    return [each.submission.engine_id for each in found]


def offer_all(intake: Intake, submissions: list[Submission]) -> list[str]:
    """The reasons, "" for what was taken."""
    return [(intake.offer(each) or intakes.Refusal("")).reason for each in submissions]


def test_the_engine_gets_no_more_than_it_can_run() -> None:
    intake = Intake(3, Speed())
    offer_all(intake, [make_submission() for _ in range(5)])

    running = started(intake)
    assert len(running) == 3 and intake.waiting == 2
    intake.ended(running[0].submission.engine_id)
    assert len(started(intake)) == 1


def test_prompts_enter_as_the_engine_computes_them() -> None:
    """In the engine they stand in line as they came: a light organization behind them all."""
    intake = Intake(64, Speed())
    offer_all(intake, [make_submission(FLOOD, prompt_tokens=1_500) for _ in range(10)])
    running = started(intake)
    intake.offer(make_submission(LIGHT))
    assert len(running) == 3 and started(intake) == []
    intake.grew(running[0], 1)

    assert started(intake)[0].submission.organization == LIGHT


# --- The KV cache ------------------------------------------------------------------------


def test_the_engine_gets_what_its_cache_holds_by_estimate() -> None:
    intake = Intake(64, Speed())
    intake.kv_tokens = 1_000
    offer_all(intake, [make_submission(prompt_tokens=200, max_tokens=40) for _ in range(8)])

    assert len(started(intake)) == 4  # 240 tokens each
    assert intake.waiting == 4


def test_output_is_expected_as_long_as_the_organizations_was_not_as_the_limit_says() -> None:
    intake = Intake(64, Speed())
    first = make_submission(prompt_tokens=16, max_tokens=10_000)
    intake.offer(first)
    (running,) = started(intake)
    assert running.reserved_tokens == 352  # 16 and five quarters of 256, in blocks
    for _ in range(100):
        intake.grew(running, 0)
        running.emitted = 32
        intake.learn(running)
    intake.offer(make_submission(prompt_tokens=16, max_tokens=10_000))

    (second,) = started(intake)
    assert second.reserved_tokens <= 16 + 64 < running.reserved_tokens


def test_what_is_longer_than_expected_takes_more_of_the_cache() -> None:
    intake = Intake(64, Speed())
    intake.kv_tokens = 1_000
    intake.offer(make_submission(prompt_tokens=100, max_tokens=900))
    (running,) = started(intake)
    before = running.reserved_tokens
    intake.grew(running, before)

    assert running.reserved_tokens > before
    intake.ended(running.submission.engine_id)
    assert intake._reserved == 0


def test_a_giant_is_overtaken_for_a_while_and_then_waited_for(clock: Clock) -> None:
    intake = Intake(64, Speed())
    intake.kv_tokens = 1_000
    small = [make_submission(prompt_tokens=50, max_tokens=14) for _ in range(30)]
    giant = make_submission(prompt_tokens=900, max_tokens=50)
    offer_all(intake, [*small[:3], giant, *small[3:6]])

    running = started(intake)
    assert giant.engine_id not in ids(running) and len(running) == 6
    clock.now += intakes.MOST_OVERTAKEN_S
    offer_all(intake, small[6:])
    assert started(intake) == []  # nothing enters before it any more
    for each in running:
        intake.ended(each.submission.engine_id)
    assert ids(started(intake))[0] == giant.engine_id


def test_what_is_larger_than_the_cache_runs_alone_and_the_engine_judges() -> None:
    intake = Intake(64, Speed())
    intake.kv_tokens = 100
    intake.offer(make_submission(prompt_tokens=500))

    assert len(started(intake)) == 1


def test_what_waits_for_room_in_the_cache_can_be_removed() -> None:
    intake = Intake(64, Speed())
    intake.kv_tokens = 100
    offer_all(intake, [make_submission(prompt_tokens=60), make_submission(prompt_tokens=60)])
    started(intake)
    (held,) = intake.all_waiting()

    assert intake.remove({held.engine_id}) == [held] and intake.waiting == 0


# --- Refusing ----------------------------------------------------------------------------


def test_a_flood_cannot_fill_the_queue_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intakes, "MOST_WAITING", 100)
    intake = Intake(1, Speed())
    flood = offer_all(intake, [make_submission(FLOOD) for _ in range(500)])
    other_flood = offer_all(intake, [make_submission(3) for _ in range(500)])

    assert flood.count("") == 50 and other_flood.count("") == 25
    assert offer_all(intake, [make_submission(LIGHT) for _ in range(10)]) == [""] * 10
    assert intake.waiting <= 100


@pytest.mark.parametrize("tier", MOST_WAIT_S)
def test_who_would_wait_longer_than_the_bound_is_refused_at_once(tier: str) -> None:
    intake = Intake(1, measured())
    sampling = Sampling(max_tokens=10, min_tokens=10)  # 1 s each in the engine, and 1 s of prompt

    def submission() -> Submission:
        return make_submission(prompt_tokens=1_000, sampling=sampling, tier=tier)

    intake.offer(submission())
    started(intake)
    answers = [intake.offer(submission()) for _ in range(400)]

    refusals = [each for each in answers if each is not None]
    assert answers.index(refusals[0]) == pytest.approx(MOST_WAIT_S[tier] / 2, abs=1)
    assert {each.reason for each in refusals} == {"overloaded"}
    assert 0 < refusals[0].retry_after_s <= 2.1


def test_a_light_organization_is_not_refused_for_a_floods_queue() -> None:
    intake = Intake(1, measured())
    long = Sampling(max_tokens=50, min_tokens=50)
    flood = offer_all(intake, [make_submission(FLOOD, sampling=long)])
    started(intake)
    flood += offer_all(intake, [make_submission(FLOOD, sampling=long) for _ in range(100)])

    assert "overloaded" in flood
    assert offer_all(intake, [make_submission(LIGHT, sampling=long) for _ in range(2)]) == ["", ""]


def test_what_began_elsewhere_is_never_refused_for_its_wait() -> None:
    intake = Intake(1, measured())
    long = Sampling(max_tokens=500, min_tokens=500)
    intake.offer(make_submission(sampling=long))
    started(intake)
    offer_all(intake, [make_submission(sampling=long) for _ in range(5)])

    assert intake.offer(make_submission(sampling=long)) is not None
    assert intake.offer(make_submission(sampling=long, prompt_tokens=10, offset=4)) is None


def test_an_engine_of_unknown_speed_refuses_nobody_for_the_wait() -> None:
    intake = Intake(1, Speed())

    assert set(offer_all(intake, [make_submission(max_tokens=9_000) for _ in range(900)])) == {""}
