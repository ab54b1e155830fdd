"""Real vLLM: whose time its steps were, going on where another stopped, and its death."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from inference.parsers import REASONING_PARSERS, TOOL_PARSERS
from tests.harness.services import CHECKOUT
from tests.inference.default_models import default_folder


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What ``real_engine`` found, and how its process ended. Started once: it takes a minute."""
    weights = default_folder("smollm2-135m-instruct")
    said = tmp_path_factory.mktemp("real") / "said"
    # Into files: the stopped processes would hold pipes open after their parent's end.
    with said.open("w") as output, said.with_suffix(".errors").open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.workers.real_engine", str(weights)],
            cwd=CHECKOUT,
            stdout=output,
            stderr=errors,
        )
        try:
            returncode = process.wait(timeout=560)
        finally:
            process.kill()
            found: dict[str, Any] = {}
            for line in said.read_text().splitlines():
                found |= json.loads(line)
            # Nobody else ends them: they are stopped, and their parent is gone.
            for pid in found.get("stopped", ()):
                os.kill(pid, signal.SIGKILL)
    assert "stopped" in found, said.with_suffix(".errors").read_text()[-3_000:]
    return found | {"returncode": returncode}


@pytest.fixture(scope="module", autouse=True)
def _clean() -> Iterator[None]:
    yield
    client = redis.Redis.from_url(os.environ["REDIS_URL"])
    client.flushdb()
    client.close()


@pytest.mark.timeout(600)  # the first to want the weights converts them
def test_engine_seconds_of_sequences_sum_to_the_busy_wall_time(found: dict[str, Any]) -> None:
    accounts = found["accounting"]

    assert accounts["charged_s"] == pytest.approx(accounts["steps_s"], rel=0.01)
    assert accounts["charged_s"] == pytest.approx(accounts["busy_s"], rel=0.01)
    assert accounts["unattributed_s"] < 0.01 * accounts["busy_s"]
    assert accounts["least_us"] > 0


def test_the_replica_says_how_fast_it_is_and_what_its_cache_holds(found: dict[str, Any]) -> None:
    profile = found["accounting"]["profile"]

    assert profile["prefill_tokens_per_s"] > 1
    assert profile["decode_ms"] + profile["decode_ms_per_running"] > 1
    assert found["accounting"]["kv_tokens"] > 1_000


@pytest.mark.parametrize("name", ["greedy", "stop", "frequency", "repetition", "logprobs"])
def test_a_continuation_is_the_rest_of_the_same_text(found: dict[str, Any], name: str) -> None:
    case = found["continuations"][name]

    assert case["cuts"] > 1 and case["wrong"] == []


def test_the_cases_differ_where_they_should(found: dict[str, Any]) -> None:
    cases = found["continuations"]

    assert cases["stop"]["finish"] == "stop" and cases["stop"]["text"] == cases["text"][:25]
    assert cases["frequency"]["text"] != cases["greedy"]["text"] != cases["repetition"]["text"]


def test_characters_of_several_tokens_are_whole_wherever_they_are_cut(
    found: dict[str, Any],
) -> None:
    assert found["detokenizer"]["text"].startswith("🎉 naïve 漢字")
    assert found["detokenizer"]["cuts"] > 10 and found["detokenizer"]["wrong"] == []


def test_a_tool_call_goes_on_without_being_begun_again(found: dict[str, Any]) -> None:
    parsed = found["parsed"]
    assert parsed["begun"] == ["get_weather"]
    assert parsed["names"] == []
    assert parsed["content"] == ""
    assert parsed["arguments"]
    assert parsed["arguments"] == parsed["expected"]


def test_a_grammar_holds_and_what_is_none_is_refused(found: dict[str, Any]) -> None:
    constrained = found["constrained"]
    assert re.fullmatch("[0-9]{6}", constrained["text"])
    assert re.fullmatch("[a-c]{3}", constrained["after"])
    errors = dict.fromkeys(("continued", "unknown", "empty"), "invalid_parameters")
    assert constrained["errors"] == {"fresh": "", **errors}
    assert "no text matches it" in constrained["detail"]


def test_the_parsers_that_staff_may_choose_are_vllms(found: dict[str, Any]) -> None:
    assert set(found["parsers"]["tools"]) == TOOL_PARSERS
    assert set(found["parsers"]["reasoning"]) == REASONING_PARSERS


def test_a_hung_engine_is_out_of_rotation_within_15_s_and_its_process_ends(
    found: dict[str, Any],
) -> None:
    assert found["unproven_after_s"] < 15
    assert found["dead_after_s"] < 20
    assert found["returncode"] == 70


def test_only_what_was_in_the_engine_says_that_it_died(found: dict[str, Any]) -> None:
    assert sorted(found["ends"]) == ["engine_died"] * 8 + ["replica_stopping"]
