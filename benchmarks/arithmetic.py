"""Outcomes to figures, pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(slots=True)
class Outcome:
    """One answer as its client saw it; times are seconds of one monotonic clock."""

    kind: str
    status: int = 0  # 0: the connection failed
    started_at: float = 0.0
    first_at: float | None = None  # first byte of content (streams) or of the body
    ended_at: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    has_hung_up: bool = False  # we went away, as we meant to
    error: str = ""
    label: str = ""  # the caller's, as its request had it


@dataclass(frozen=True)
class Summary:
    """What one run of load came to."""

    requests: int
    failed: int
    seconds: float
    requests_per_s: float
    tokens: int
    tokens_per_s: float
    prompt_tokens: int
    p50_ms: float
    p99_ms: float
    p50_first_ms: float


def percentile(values: Sequence[float], share: float) -> float:
    """Nearest rank: the smallest value with at least ``share`` of them at or below it."""
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def jain_index(shares: Sequence[float]) -> float:
    """1 where all have the same, 1/n where one has all (Jain, Chiu and Hawe, 1984)."""
    squares = len(shares) * sum(share * share for share in shares)
    return sum(shares) ** 2 / squares if squares else math.nan


def summarize(outcomes: Sequence[Outcome]) -> Summary:
    """From the first request's start to the last answer's end; failures have no latency."""
    good = [outcome for outcome in outcomes if outcome.status == 200]
    if not good:
        return Summary(len(outcomes), len(outcomes), 0, 0, 0, 0, 0, math.nan, math.nan, math.nan)
    seconds = max(o.ended_at for o in outcomes) - min(o.started_at for o in outcomes)
    tokens = sum(outcome.completion_tokens for outcome in good)
    latencies = [(outcome.ended_at - outcome.started_at) * 1000 for outcome in good]
    firsts = [(o.first_at - o.started_at) * 1000 for o in good if o.first_at is not None]
    return Summary(
        requests=len(outcomes),
        failed=len(outcomes) - len(good),
        seconds=seconds,
        requests_per_s=len(good) / seconds,
        tokens=tokens,
        tokens_per_s=tokens / seconds,
        prompt_tokens=sum(outcome.prompt_tokens for outcome in good),
        p50_ms=percentile(latencies, 0.5),
        p99_ms=percentile(latencies, 0.99),
        p50_first_ms=percentile(firsts, 0.5),
    )


def median(values: Iterable[float]) -> float:
    """Of the values that are numbers; NaN when there are none."""
    numbers = [value for value in values if not math.isnan(value)]
    return statistics.median(numbers) if numbers else math.nan


def per_request_us(
    cpu_s: Mapping[str, float],
    idle_cpu_s_per_s: Mapping[str, float],
    drain_s: float,
    count: int,
) -> dict[str, float]:
    """CPU microseconds a request by process.

    ``cpu_s`` was spent during the load and the ``drain_s`` after it in which the ledger
    caught up; what the processes would have spent idling through the drain is taken off.
    """
    return {
        name: max(0.0, spent - idle_cpu_s_per_s.get(name, 0.0) * drain_s) / count * 1e6
        for name, spent in cpu_s.items()
    }


def growth(samples: Sequence[tuple[int, int]], warm_up: int) -> tuple[float, float]:
    """``(last, largest deviation)`` of RSS relative to the first sample after the warm-up.

    ``samples`` are ``(requests so far, bytes)``; both results are shares, 0.05 for 5 %.
    """
    after = [size for requests, size in samples if requests >= warm_up]
    if not after:
        return math.nan, math.nan
    base = after[0]
    return after[-1] / base - 1, max((size / base - 1 for size in after), key=abs)


@dataclass(frozen=True)
class SelfTime:
    function: str
    share: float  # of all samples


def self_times(collapsed: Iterable[str], only: str = "") -> list[SelfTime]:
    """Functions by self time out of py-spy's collapsed stacks (``a;b;c 12``).

    ``only`` keeps stacks that contain this text, such as a thread's name.
    """
    counts: dict[str, int] = {}
    for line in collapsed:
        stack, _, count = line.rpartition(" ")
        if stack and count.isdigit() and only in stack:
            leaf = stack.rsplit(";", 1)[-1]
            counts[leaf] = counts.get(leaf, 0) + int(count)
    total = sum(counts.values()) or 1
    return [
        SelfTime(function, count / total)
        for function, count in sorted(counts.items(), key=lambda item: -item[1])
    ]


def inclusive_times(collapsed: Iterable[str]) -> list[SelfTime]:
    """The same with each function counted once for every stack it stands in."""
    counts: dict[str, int] = {}
    total = 0
    for line in collapsed:
        stack, _, count = line.rpartition(" ")
        if stack and count.isdigit():
            total += int(count)
            for function in set(stack.split(";")):
                counts[function] = counts.get(function, 0) + int(count)
    return [
        SelfTime(function, count / (total or 1))
        for function, count in sorted(counts.items(), key=lambda item: -item[1])
    ]
