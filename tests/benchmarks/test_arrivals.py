"""Load that comes when it comes, and what the benchmarks of many replicas make of it."""

from __future__ import annotations

import asyncio
import itertools
import math

import pytest

from benchmarks.arithmetic import Outcome, jain_index
from benchmarks.fleet_host import submissions_in
from benchmarks.load import Ask, make_ask, run_arrivals
from benchmarks.overload import summarize_overload
from inference.dispatch.senders import envelope
from inference.wire import Sampling, Submission, queue_of
from tests.benchmarks.test_load import WHOLE, Peer, running


def test_arrivals_do_not_wait_for_answers() -> None:
    async def offered() -> list[Outcome]:
        async with running(Peer(b"", WHOLE, pause_s=0.5)) as url:
            asks = itertools.repeat(make_ask(url, {}))
            return await run_arrivals(asks, url, per_s=100, most_s=0.5)

    outcomes = asyncio.run(offered())
    # One client that waits would have asked once.
    assert 25 <= len(outcomes) <= 80
    assert {each.status for each in outcomes} == {200}


def test_arrivals_go_to_this_machine_only() -> None:
    with pytest.raises(ValueError, match="127"):
        asyncio.run(run_arrivals(iter([Ask(b"")]), "http://example.com:80/", per_s=1, most_s=1))


def test_jains_index() -> None:
    assert jain_index([5, 5, 5, 5]) == 1
    assert jain_index([1, 0, 0, 0]) == 0.25
    assert math.isnan(jain_index([0, 0]))


def _outcome(tier: str, status: int, started: float, first: float, ended: float) -> Outcome:
    return Outcome("stream", status, started, first, ended, completion_tokens=5, label=tier)


def test_goodput_counts_what_was_in_time_and_in_the_window() -> None:
    outcomes = [
        _outcome("priority", 200, 12, 13, 15),
        _outcome("priority", 200, 12, 30, 31),  # its bound is 10 s
        _outcome("standard", 200, 0, 1, 2),  # before the window
        _outcome("standard", 200, 12, 14, 19),
        _outcome("flex", 503, 12, 0, 12.02),
        _outcome("flex", 0, 12, 0, 13),
    ]
    result = summarize_overload(outcomes, begin=10, window_s=10, peak_tokens_per_s=1.0)
    assert result["goodput"] == 1.0  # two of five tokens in ten seconds
    assert (result["served"], result["refused"], result["failed"]) == (4, 1, 1)
    assert result["refused_p99_ms"] == pytest.approx(20)
    priority, standard, flex = result["tiers"]  # type: ignore[misc]
    assert (priority["offered"], priority["admitted"], priority["within"]) == (2, 2, 0.5)
    assert (standard["offered"], standard["within"]) == (1, 1.0)
    assert (flex["offered"], flex["admitted"], flex["within"]) == (2, 0, None)


def test_the_fleet_host_opens_what_a_dispatcher_sends() -> None:
    sampling = Sampling(max_tokens=3)
    sent = [Submission("request/0.0", 1, "gateway", "life", 7, 1, [1, 2], sampling, "salt", 0.5)]
    assert submissions_in(envelope(queue_of("simulated-1"), sent)) == sent
