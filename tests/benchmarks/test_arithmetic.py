"""The figures' arithmetic: wrong here, every table is wrong."""

from __future__ import annotations

import math

import pytest

from benchmarks import arithmetic, report
from benchmarks.arithmetic import Outcome
from benchmarks.server import BenchmarkError


def outcome(start: float, first: float, end: float, tokens: int = 64, status: int = 200) -> Outcome:
    return Outcome("stream", status, start, first, end, prompt_tokens=10, completion_tokens=tokens)


def test_summary_spans_first_start_to_last_end() -> None:
    summary = arithmetic.summarize([outcome(10.0, 10.1, 12.0), outcome(11.0, 11.3, 14.0)])
    assert summary.seconds == pytest.approx(4.0)
    assert summary.tokens_per_s == pytest.approx(128 / 4)
    assert summary.requests_per_s == pytest.approx(0.5)
    assert summary.p50_ms == pytest.approx(2000)
    assert summary.p99_ms == pytest.approx(3000)
    assert summary.p50_first_ms == pytest.approx(100)
    assert summary.prompt_tokens == 20


def test_failures_count_as_time_but_not_as_answers() -> None:
    summary = arithmetic.summarize([outcome(0, 0.1, 1), outcome(0, 0.1, 4, status=500)])
    assert (summary.requests, summary.failed) == (2, 1)
    assert summary.tokens_per_s == pytest.approx(64 / 4)
    assert summary.p99_ms == pytest.approx(1000)


def test_only_failures_have_no_latency() -> None:
    summary = arithmetic.summarize([outcome(0, 0, 1, status=0)])
    assert summary.failed == 1
    assert math.isnan(summary.p50_ms)


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1), (0.5, 5), (0.9, 9), (0.99, 10), (1.0, 10)]
)
def test_percentile_is_nearest_rank(share: float, expected: float) -> None:
    assert arithmetic.percentile([10, 9, 8, 7, 6, 5, 4, 3, 2, 1], share) == expected


def test_cpu_per_request_takes_off_only_what_idling_cost_during_the_drain() -> None:
    spent = {"web": 2.0, "beat": 0.01}
    idle = {"web": 0.1, "beat": 0.5}
    per_request = arithmetic.per_request_us(spent, idle, drain_s=1.0, count=1000)
    assert per_request["web"] == pytest.approx(1900)
    assert per_request["beat"] == 0  # never below nothing


def test_growth_is_relative_to_the_first_sample_after_warm_up() -> None:
    samples = [(10, 50), (20, 100), (30, 110), (40, 95), (50, 104)]
    last, most = arithmetic.growth(samples, warm_up=20)
    assert last == pytest.approx(0.04)
    assert most == pytest.approx(0.10)


def test_growth_without_a_sample_after_warm_up_is_no_number() -> None:
    assert all(math.isnan(value) for value in arithmetic.growth([(10, 50)], warm_up=20))


def test_self_time_counts_leaves_and_inclusive_time_counts_a_stack_once() -> None:
    stacks = ["main;a;b 3", "main;a 1", "main;a;b;a 4", "garbage", "main;c x"]
    own = {t.function: t.share for t in arithmetic.self_times(stacks)}
    assert own == {"a": pytest.approx(5 / 8), "b": pytest.approx(3 / 8)}
    inclusive = {t.function: t.share for t in arithmetic.inclusive_times(stacks)}
    assert inclusive["main"] == inclusive["a"] == pytest.approx(1.0)
    assert inclusive["b"] == pytest.approx(7 / 8)


def test_page_is_written_only_between_its_markers() -> None:
    page = "before\n<!-- benchmarks:x -->\nold\n<!-- /benchmarks:x -->\nafter\n"
    written = report.put_between(page, "x", "new")
    assert written == "before\n<!-- benchmarks:x -->\nnew\n<!-- /benchmarks:x -->\nafter\n"
    assert report.put_between(written, "x", "new") == written


def test_page_without_markers_is_refused() -> None:
    with pytest.raises(BenchmarkError, match="no markers for y"):
        report.put_between("<!-- benchmarks:y --> no end", "y", "new")
