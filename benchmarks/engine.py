"""Engine efficiency: tokens/s through the whole platform over those of vLLM's own server.

The two never run at once: each is started, warmed up, measured and stopped, in turn,
and the medians over the rounds are compared. Both get the same prompts in the same
order from the same client.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace

import uvloop

from benchmarks import aborts, charged, prompts
from benchmarks.arithmetic import Outcome, Summary, median, summarize
from benchmarks.load import Ask, make_ask, run_load
from benchmarks.server import BenchmarkError, Server, say
from benchmarks.sizes import Sizes
from benchmarks.sluice import EngineSettings, engine_settings, platform
from benchmarks.vllm_server import vllm_server

WAVE_TIMEOUT_S = 300.0
SLOW_WAVE_S = 24.0
# Short prompts: the less of the time is the engine's prefill, the more a platform's own
# work for each token shows.
PROMPT_CHARACTERS = 60
SERVERS = ("sluice", "vllm")


@dataclass(frozen=True)
class Level:
    """Medians of one number of concurrent streams."""

    streams: int
    tokens_per_s: dict[str, float]
    p50_first_ms: dict[str, float]
    efficiency: float  # of the medians
    each_round: list[float]  # efficiency of the rounds by themselves


def measure(sizes: Sizes) -> dict[str, object]:
    """The result as JSON-ready values; raises BenchmarkError when any stream failed."""
    rounds: dict[str, list[dict[int, Summary]]] = {name: [] for name in SERVERS}
    settings = None
    accounting: dict[str, object] = {}
    left: dict[str, object] = {}
    number = 0
    while number < sizes.engine_rounds:
        with platform("vllm", served=sizes.served) as server:
            settings = engine_settings(sizes.served)
            if number == 0:
                sizes = _fit(sizes, server)
            rounds["sluice"].append(_measure_server(server, sizes, number))
            if number == 0:
                accounting = _charge(server, sizes)
                left = aborts.measure(server)
        found = settings
        rounds["vllm"].append(
            _measure_started(lambda: vllm_server(found), sizes, number)  # noqa: B023 - used now
        )
        number += 1
    assert settings is not None
    levels = [_level(streams, rounds) for streams, _ in sizes.engine_waves]
    return {
        "levels": [asdict(level) for level in levels],
        "rounds": sizes.engine_rounds,
        "tokens": sizes.engine_tokens,
        "prompts": prompts.source(),
        "prompt_tokens": _mean_prompt_tokens(rounds["sluice"]),
        "settings": _shown(settings),
        "accounting": accounting,
        "aborts": left,
        "each": {
            name: [{str(k): asdict(v) for k, v in each.items()} for each in measured]
            for name, measured in rounds.items()
        },
    }


def _shown(settings: EngineSettings) -> dict[str, object]:
    shown: dict[str, object] = {
        "dtype": settings.dtype,
        "max_model_len": settings.max_model_len,
        "max_num_seqs": settings.max_num_seqs,
        **settings.options,
    }
    if settings.is_eager:
        shown["kv_cache_gib"] = settings.kv_cache_gib
        shown["omp_threads_bind"] = settings.threads
        shown["enforce_eager"] = True
    return shown


def _charge(server: Server, sizes: Sizes) -> dict[str, object]:
    """One wave of the widest level at once, and whom its engine's time was charged to."""
    widest = max(streams for streams, _ in sizes.engine_waves)
    asks = _asks(server, widest, sizes.engine_tokens, start=700_000)

    def load() -> list[Outcome]:
        outcomes = _run(server, asks, widest)
        _check(server, outcomes, sizes.engine_tokens)
        return outcomes

    return charged.measure(load)


def _fit(sizes: Sizes, server: Server) -> Sizes:
    """The load that this machine's engine gets through in the time there is: where a full
    wave of the widest level takes more than ``SLOW_WAVE_S``, fewer waves and rounds."""
    widest = max(streams for streams, _ in sizes.engine_waves)
    part = sizes.engine_tokens // 4
    outcomes = _run(server, _asks(server, widest, part, start=800_000), widest)
    _check(server, outcomes, part)
    seconds = summarize(outcomes).seconds
    if seconds < SLOW_WAVE_S / 3:
        return sizes
    say(f"a slow engine ({seconds:.0f} s for {widest} x {part} tokens): fewer waves and rounds")
    waves = tuple((streams, 2 if streams == 1 else 1) for streams, _ in sizes.engine_waves)
    return replace(sizes, engine_waves=waves, engine_rounds=min(2, sizes.engine_rounds))


def _measure_started(
    start: Callable[[], AbstractContextManager[Server]], sizes: Sizes, number: int
) -> dict[int, Summary]:
    with start() as server:
        return _measure_server(server, sizes, number)


def _measure_server(server: Server, sizes: Sizes, number: int) -> dict[int, Summary]:
    """Every level once, after a warm-up that fills the widest batch."""
    widest = max(streams for streams, _ in sizes.engine_waves)
    warm_up = _asks(server, widest, sizes.engine_tokens // 4, start=900_000)
    _check(server, _run(server, warm_up, widest), sizes.engine_tokens // 4)
    figures = {}
    for streams, waves in sizes.engine_waves:
        # The same numbers for both servers, other ones in every round and level.
        start = number * 100_000 + streams * 1_000
        asks = _asks(server, streams * waves, sizes.engine_tokens, start)
        outcomes = _run(server, asks, streams)
        _check(server, outcomes, sizes.engine_tokens)
        figures[streams] = summary = summarize(outcomes)
        say(
            f"round {number + 1}, {server.name}, {streams} streams: "
            f"{summary.tokens_per_s:.1f} tokens/s, first token {summary.p50_first_ms:.0f} ms"
        )
    return figures


def _asks(server: Server, count: int, tokens: int, start: int) -> Iterator[Ask]:
    for prompt in itertools.islice(prompts.distinct(start, PROMPT_CHARACTERS), count):
        body = {
            "model": server.model,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        yield make_ask(server.chat, body, server.key, kind="stream")


def _run(server: Server, asks: Iterator[Ask], streams: int) -> list[Outcome]:
    return uvloop.run(run_load(asks, server.url, concurrency=streams, most_s=WAVE_TIMEOUT_S))


def _check(server: Server, outcomes: list[Outcome], tokens: int) -> None:
    """Every stream has exactly its tokens, or the comparison is void."""
    for outcome in outcomes:
        if outcome.status != 200 or outcome.completion_tokens != tokens:
            raise BenchmarkError(
                f"{server.name}: a stream ended with status {outcome.status} and "
                f"{outcome.completion_tokens} of {tokens} tokens. {outcome.error}"
            )


def _mean_prompt_tokens(measured: list[dict[int, Summary]]) -> float:
    summaries = [summary for each in measured for summary in each.values()]
    return sum(s.prompt_tokens for s in summaries) / sum(s.requests for s in summaries)


def _level(streams: int, rounds: dict[str, list[dict[int, Summary]]]) -> Level:
    each = {name: [r[streams] for r in measured] for name, measured in rounds.items()}
    _check_prompts(each)
    speeds = {name: median(s.tokens_per_s for s in found) for name, found in each.items()}
    return Level(
        streams=streams,
        tokens_per_s=speeds,
        p50_first_ms={n: median(s.p50_first_ms for s in found) for n, found in each.items()},
        efficiency=speeds["sluice"] / speeds["vllm"],
        each_round=[
            ours.tokens_per_s / theirs.tokens_per_s
            for ours, theirs in zip(each["sluice"], each["vllm"], strict=True)
        ],
    )


def _check_prompts(each: dict[str, list[Summary]]) -> None:
    """Both servers must have rendered and counted the same prompts."""
    ours, theirs = ([s.prompt_tokens for s in each[name]] for name in SERVERS)
    if ours != theirs:
        raise BenchmarkError(f"Prompt tokens differ: Sluice counted {ours}, vLLM {theirs}.")
