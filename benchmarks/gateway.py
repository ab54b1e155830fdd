"""What the gateway costs: CPU for each request, and the time it adds.

Three servers answer the same kind of request in turn, round by round: a bare ASGI
application (the floor), Sluice with its simulated engine, and LiteLLM's proxy in front
of the bare application. All stay up throughout; whoever is not asked idles.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass

import uvloop

from benchmarks import litellm_proxy, prompts
from benchmarks.arithmetic import Outcome, Summary, median, per_request_us, summarize
from benchmarks.cpu import CpuMeter
from benchmarks.instant_upstream import COMPLETION_TOKENS
from benchmarks.litellm_proxy import instant_upstream
from benchmarks.load import Ask, make_ask, run_load
from benchmarks.server import RESULTS, BenchmarkError, Server, say
from benchmarks.sizes import Sizes
from benchmarks.sluice import platform, recorded_requests

IDLE_S = 4.0
# Of the streamed path: a token a sequence every 20 ms, as a busy replica makes them; and every
# millisecond, which is more than one core can pass on.
STREAM_DECODE_MS = (20, 1)
_POOL = 2_000


@dataclass(frozen=True)
class Cost:
    """One run of load on one server."""

    server: str
    concurrency: int
    summary: Summary
    cpu_us: dict[str, float]  # CPU microseconds a request, by process
    client_us: float

    @property
    def total_us(self) -> float:
        return sum(self.cpu_us.values())


def measure(sizes: Sizes) -> dict[str, object]:
    with ExitStack() as stack:
        bare = stack.enter_context(instant_upstream())
        ours = stack.enter_context(platform("simulated", served=sizes.served))
        servers = [bare, ours]
        if sizes.gateway_has_peer:
            servers.append(stack.enter_context(litellm_proxy.litellm_proxy(bare)))
        idle = {server.name: get_idle(server) for server in servers}
        costs = _measure_all(servers, idle, sizes)
    streamed = [measure_streamed(sizes, decode_ms) for decode_ms in STREAM_DECODE_MS]
    rows = [
        _row(name, concurrency, costs)
        for concurrency in (1, sizes.gateway_concurrency)
        for name in [server.name for server in servers]
    ]
    return {
        "rows": rows,
        "streamed": streamed,
        "idle_us_per_s": {name: sum(each.values()) * 1e6 for name, each in idle.items()},
        "rounds": sizes.gateway_rounds,
        "tokens": COMPLETION_TOKENS,
        "prompts": prompts.source(),
        "peer": litellm_proxy.version() if sizes.gateway_has_peer else "none",
    }


def _measure_all(
    servers: Sequence[Server], idle: Mapping[str, Mapping[str, float]], sizes: Sizes
) -> list[Cost]:
    for server in servers:
        put_load(
            server,
            make_asks(server),
            sizes.gateway_concurrency,
            sizes.gateway_warm_up_s,
        )
        put_load(server, make_asks(server), 1, sizes.gateway_warm_up_s / 2)
    costs = []
    for number in range(sizes.gateway_rounds):
        for concurrency, seconds in (
            (1, sizes.gateway_latency_s),
            (sizes.gateway_concurrency, sizes.gateway_throughput_s),
        ):
            for server in servers:
                cost = get_cost(server, make_asks(server), concurrency, seconds, idle[server.name])
                costs.append(cost)
                _say(number, cost)
    return costs


def _say(number: int, cost: Cost) -> None:
    say(
        f"round {number + 1}, {cost.server}, {cost.concurrency} at once: "
        f"{cost.total_us:.0f} us CPU, p50 {cost.summary.p50_ms:.2f} ms, "
        f"p99 {cost.summary.p99_ms:.2f} ms, {cost.summary.requests_per_s:.0f}/s"
    )


def make_asks(
    server: Server, *, stream: bool = False, tokens: int = COMPLETION_TOKENS, **parameters: object
) -> Iterator[Ask]:
    """Endless requests with distinct prompts, made beforehand to keep the client light."""
    more = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    made = [
        make_ask(
            server.chat,
            {
                "model": server.model,
                "messages": [{"role": "user", "content": prompt}],
                "max_tokens": tokens,
                "temperature": 0,
                **more,
                **parameters,
            },
            server.key,
            kind="stream" if stream else "whole",
        )
        for prompt in itertools.islice(prompts.distinct(), _POOL)
    ]
    return itertools.cycle(made)


def put_load(
    server: Server, asks: Iterator[Ask], concurrency: int, seconds: float
) -> list[Outcome]:
    outcomes = uvloop.run(run_load(asks, server.url, concurrency=concurrency, most_s=seconds))
    for outcome in outcomes:
        if outcome.status != 200:
            raise BenchmarkError(
                f"{server.name}: status {outcome.status} instead of 200. {outcome.error}"
            )
    return outcomes


def get_idle(server: Server) -> dict[str, float]:
    """CPU seconds a second that each process takes with nothing to do."""
    meter = CpuMeter(server.roots)
    before = meter.read()
    time.sleep(IDLE_S)
    return {name: spent / IDLE_S for name, spent in meter.since(before).items()}


def get_cost(
    server: Server,
    asks: Iterator[Ask],
    concurrency: int,
    seconds: float,
    idle: Mapping[str, float],
) -> Cost:
    meter = CpuMeter(server.roots)
    recorded = recorded_requests() if server.name == "sluice" else 0
    before, client_before = meter.read(), time.process_time()
    outcomes = put_load(server, asks, concurrency, seconds)
    client_s = time.process_time() - client_before
    drained_at = time.monotonic()
    if server.name == "sluice":
        _check_ledger(recorded + len(outcomes))
    drain_s = time.monotonic() - drained_at
    return Cost(
        server.name,
        concurrency,
        summarize(outcomes),
        per_request_us(meter.since(before), idle, drain_s, len(outcomes)),
        client_s / len(outcomes) * 1e6,
    )


def _check_ledger(expected: int) -> None:
    """Wait for the ledger, whose work counts too; every request is in it exactly once."""
    if (found := recorded_requests()) != expected:
        raise BenchmarkError(f"The ledger has {found} usage events instead of {expected}.")


def _row(name: str, concurrency: int, costs: Sequence[Cost]) -> dict[str, object]:
    mine = [c for c in costs if c.server == name and c.concurrency == concurrency]
    processes = list(mine[0].cpu_us)
    return {
        "server": name,
        "concurrency": concurrency,
        "cpu_us": median(cost.total_us for cost in mine),
        "cpu_us_by_process": {
            process: median(cost.cpu_us[process] for cost in mine) for process in processes
        },
        "client_us": median(cost.client_us for cost in mine),
        "p50_ms": median(cost.summary.p50_ms for cost in mine),
        "p99_ms": median(cost.summary.p99_ms for cost in mine),
        "requests_per_s": median(cost.summary.requests_per_s for cost in mine),
        "requests": sum(cost.summary.requests for cost in mine),
        "each": [asdict(cost) for cost in mine],
    }


# --- The streamed path ------------------------------------------------------------------


def measure_streamed(sizes: Sizes, decode_ms: int) -> dict[str, object]:
    """CPU for each token of many streams whose engine makes one token each a step.

    What processes take that do nothing for a token (a beat that ticks, an embedding replica
    that waits) is in the whole and shown beside it: the slower the tokens, the more it is.
    """
    RESULTS.mkdir(exist_ok=True)
    profile = RESULTS / f"stream-profile-{decode_ms}.json"
    profile.write_text(
        json.dumps({"prefill_tokens_per_s": 0, "decode_ms": decode_ms, "decode_ms_per_running": 0})
    )
    with platform("simulated", str(profile), sizes.served) as server:
        idle = get_idle(server)
        tokens, streams = sizes.gateway_stream_tokens, sizes.gateway_streams
        waves = max(2, 40 // decode_ms)
        put_load(server, _stream_asks(server, streams, 16), streams, 30)
        costs = [
            get_cost(server, _stream_asks(server, streams * waves, tokens), streams, 60, idle)
            for _ in range(sizes.gateway_rounds)
        ]
    by_process = {
        name: median(cost.cpu_us[name] / tokens for cost in costs) for name in costs[0].cpu_us
    }
    tokens_per_s = median(cost.summary.tokens_per_s for cost in costs)
    cpu_us = median(cost.total_us / tokens for cost in costs)
    result = {
        "streams": streams,
        "tokens": tokens,
        "decode_ms": decode_ms,
        "cpu_us_per_token": cpu_us,
        "idle_us_per_token": sum(idle.values()) * 1e6 / tokens_per_s,
        "cpu_us_per_token_by_process": by_process,
        "tokens_per_s": tokens_per_s,
        "tokens_per_s_per_core": 1e6 / cpu_us,
        "p50_first_ms": median(cost.summary.p50_first_ms for cost in costs),
    }
    say(f"streamed, a token each {decode_ms} ms: {cpu_us:.1f} us CPU a token")
    return result


def _stream_asks(server: Server, count: int, tokens: int) -> Iterator[Ask]:
    return itertools.islice(make_asks(server, stream=True, tokens=tokens), count)
