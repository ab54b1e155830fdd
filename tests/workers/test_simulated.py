"""The simulated engine: no model, but the same contract as a real one."""

from __future__ import annotations

import asyncio
import json
import struct
import time
from pathlib import Path

import pytest

from inference.engine_protocol import EngineSpec
from inference.wire import Delta, Sampling, Submission
from tests.workers.factory import make_submission
from workers.engines import make_engine
from workers.engines.simulated import Profile, SimulatedEngine

SPEC = EngineSpec("tiny", "chat", "", "auto", 128, 8)


async def started() -> tuple[SimulatedEngine, list[Delta]]:
    engine, deltas = SimulatedEngine(), []

    def on_death(error: BaseException) -> None:
        raise error

    await engine.start(SPEC, deltas.append, on_death)
    return engine, deltas


async def run(*submissions: Submission) -> list[Delta]:
    engine, deltas = await started()
    for submission in submissions:
        await engine.submit(submission)
    async with asyncio.timeout(20):
        while sum(bool(delta.finish_reason) for delta in deltas) < len(submissions):
            await asyncio.sleep(0.005)
    await engine.stop()
    return deltas


@pytest.fixture
def profile(tmp_path: Path, settings: object) -> None:
    path = tmp_path / "profile.json"
    path.write_text(json.dumps({"prefill_tokens_per_s": 1_000, "decode_ms": 5.0}))
    settings.SIMULATED_PROFILE = str(path)  # type: ignore[attr-defined]


async def test_an_answer_at_once_is_one_delta_with_every_token() -> None:
    (delta,) = await run(make_submission(max_tokens=9))

    assert len(delta.token_ids) == 9 and delta.finish_reason == "length"


async def test_a_continuation_is_the_rest_of_the_same_text(profile: None) -> None:
    whole = await run(make_submission(max_tokens=12))
    # A continuation's prompt holds what was already emitted.
    rest = await run(make_submission(prompt_tokens=10 + 5, max_tokens=7, offset=5))

    assert [delta.token_ids for delta in rest] == [delta.token_ids for delta in whole[5:]]
    assert "".join(d.text for d in rest) == "".join(d.text for d in whole[5:])


async def test_the_text_is_the_prompts_own_at_any_temperature_and_for_anybody() -> None:
    hot = Sampling(max_tokens=32, temperature=1.5)
    first, again, other = await run(
        make_submission(1, prompt_tokens=10, max_tokens=32),
        make_submission(2, prompt_tokens=10, sampling=hot),
        make_submission(1, prompt_tokens=11, max_tokens=32),
    )

    assert first.token_ids == again.token_ids and first.text == again.text
    assert first.text != other.text and len(other.token_ids) == 32


async def test_a_profile_makes_it_as_slow_as_what_was_measured(profile: None) -> None:
    before = time.monotonic()
    deltas = await run(make_submission(prompt_tokens=100, max_tokens=10))

    assert len(deltas) == 10
    assert time.monotonic() - before >= 0.1 + 9 * 0.005


async def test_an_embedding_is_a_unit_vector_of_its_prompt_only() -> None:
    def vector(delta: Delta) -> tuple[float, ...]:
        return struct.unpack(f"<{len(delta.embedding) // 4}f", delta.embedding)

    def embed(prompt_tokens: int, organization: int) -> Submission:
        fields = make_submission(organization, prompt_tokens=prompt_tokens)
        values = {name: getattr(fields, name) for name in Submission.__struct_fields__}
        return Submission(**{**values, "sampling": None})

    one, again, other = (vector(d) for d in await run(embed(3, 1), embed(3, 2), embed(4, 1)))
    assert one == again != other
    assert len(one) == 384
    assert sum(value * value for value in one) == pytest.approx(1.0)


async def test_an_aborted_sequence_gets_its_last_delta_and_no_more(profile: None) -> None:
    engine, deltas = await started()
    submission = make_submission(max_tokens=1_000)
    await engine.submit(submission)
    while not deltas:
        await asyncio.sleep(0.005)
    engine.abort([submission.engine_id])
    count = len(deltas)
    await asyncio.sleep(0.05)

    assert deltas[-1].finish_reason == "abort" and len(deltas) == count
    assert engine.stats().running == 0
    await engine.stop()


def test_engines_are_chosen_by_name_and_a_wrong_name_is_refused() -> None:
    assert make_engine("simulated").name == "simulated"
    with pytest.raises(KeyError):
        make_engine("imaginary")


@pytest.mark.parametrize("content", ["", "[1]", '{"unknown": 1}'])
def test_a_malformed_profile_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "profile.json"
    path.write_text(content)

    with pytest.raises((ValueError, TypeError)):
        Profile.load(str(path))
