"""Whose time a step was, and how fast the engine is, from its steps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.engine_protocol import Step
from workers.engine.accounting import StepAccounts
from workers.engine.speed import Speed
from workers.engines.simulated import Profile

PROFILE = Profile(prefill_tokens_per_s=4_000, decode_ms=18.0, decode_ms_per_running=0.6)


def accounts_of(*engine_ids: str) -> StepAccounts:
    accounts = StepAccounts(Speed())
    for engine_id in engine_ids:
        accounts.open(engine_id)
    return accounts


def test_a_step_of_decoding_is_divided_in_equal_parts() -> None:
    accounts = accounts_of("a", "b")
    accounts.take(Step(0.03, ["a", "b"]))
    accounts.take(Step(0.01, ["a"]))

    assert (accounts.close("a"), accounts.close("b")) == (25_000, 15_000)


def test_a_step_of_prompts_is_divided_by_their_tokens() -> None:
    accounts = accounts_of("a", "b")
    accounts.take(Step(0.4, (), {"a": 300, "b": 100}, 400))

    assert (accounts.close("a"), accounts.close("b")) == (300_000, 100_000)


def test_a_prompt_in_chunks_pays_for_all_of_them_when_it_is_done() -> None:
    accounts = accounts_of("long", "short")
    accounts.take(Step(0.5, (), {}, 500))
    accounts.take(Step(0.5, (), {"short": 100}, 500))
    assert accounts.close("short") == 100_000
    accounts.take(Step(0.5, (), {"long": 1_400}, 500))

    assert accounts.close("long") == 1_400_000


def test_a_mixed_step_is_divided_by_what_each_part_takes_alone() -> None:
    speed = Speed()
    speed.learn(Step(1.0, (), {"x": 1_000}, 1_000))
    speed.learn(Step(0.1, ["x"]))
    accounts = StepAccounts(speed)
    for engine_id in ("new", "old"):
        accounts.open(engine_id)
    accounts.take(Step(0.6, ["old"], {"new": 200}, 200))  # 0.2 s and 0.1 s alone

    assert accounts.close("new") == pytest.approx(400_000, rel=0.01)
    assert accounts.close("old") == pytest.approx(200_000, rel=0.01)


def test_who_came_late_is_charged_from_what_its_step_left() -> None:
    """vLLM may answer before its caller knows the sequence's collector."""
    accounts = accounts_of("early")
    accounts.take(Step(0.2, (), {}, 50))
    accounts.take(Step(0.0, (), {"early": 50}, 0))

    assert accounts.close("early") == 200_000


def test_time_of_sequences_that_left_is_nobodys() -> None:
    accounts = accounts_of("a")
    accounts.take(Step(0.2, ["gone"]))
    accounts.take(Step(0.3, (), {}, 50))

    assert accounts.close("a") == 0
    assert accounts.unattributed_s == pytest.approx(0.5)


STEPS = st.lists(
    st.tuples(
        st.floats(0.0001, 2.0),
        st.sets(st.sampled_from("abcdef")),
        st.dictionaries(st.sampled_from("ghijkl"), st.integers(1, 5_000)),
        st.integers(0, 5_000),
        st.sets(st.sampled_from("abcdefghijkl"), max_size=3),
    ),
    max_size=30,
)


@given(STEPS)
def test_nothing_is_lost_or_invented(steps: list[tuple]) -> None:
    accounts = accounts_of(*"abcdefghijkl")
    closed_us = 0
    for duration_s, decoded, prefilled, more_tokens, ended in steps:
        tokens = sum(prefilled.values()) + more_tokens
        step = Step(duration_s, sorted(decoded), prefilled, tokens)
        accounts.take(step)
        accounts._speed.learn(step)
        closed_us += sum(accounts.close(each) for each in sorted(ended))
    closed_us += sum(accounts.close(each) for each in "abcdefghijkl")

    total_s = closed_us / 1e6 + accounts.unattributed_s
    assert total_s == pytest.approx(accounts.taken_s, abs=1e-4)


def run_profile(speed: Speed, loads: list[int], steps: int = 200) -> None:
    for running in loads:
        for number in range(steps):
            decoded = [str(each) for each in range(running)]
            speed.learn(Step(PROFILE.decode_s(running), decoded))
            if number % 10 == 0:
                duration_s = PROFILE.prefill_s(700) + PROFILE.decode_s(running)
                speed.learn(Step(duration_s, decoded, {"new": 700}, 700))


def test_a_profile_is_found_again_from_its_steps() -> None:
    speed = Speed()
    run_profile(speed, [1, 4, 16, 64])

    found = Profile(**speed.profile.as_dict())
    assert found.prefill_tokens_per_s == pytest.approx(PROFILE.prefill_tokens_per_s, rel=0.02)
    assert found.decode_ms == pytest.approx(PROFILE.decode_ms, rel=0.02)
    assert found.decode_ms_per_running == pytest.approx(PROFILE.decode_ms_per_running, rel=0.02)


def test_decode_ms_follows_the_load_of_the_last_seconds() -> None:
    speed = Speed()
    run_profile(speed, [1, 64], steps=2_000)

    assert speed.decode_ms == pytest.approx(PROFILE.decode_s(64) * 1000, rel=0.05)


def test_one_load_alone_is_taken_for_what_it_is() -> None:
    speed = Speed()
    run_profile(speed, [8])

    assert speed.decode_s(8) == pytest.approx(PROFILE.decode_s(8), rel=0.02)
    assert speed.profile.decode_ms_per_running == 0


def test_an_engine_that_did_nothing_yet_is_of_unknown_speed() -> None:
    speed = Speed()

    assert not speed.is_known
    assert speed.prefill_s(1_000) == speed.decode_s(5) == speed.decode_ms == 0
