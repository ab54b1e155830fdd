"""``python -m benchmarks [engine|gateway|memory|admission|routing|batch|overload|fairness|linearity|semcache|tenancy|profile|all|render]``; see docs/performance.md."""

from __future__ import annotations

import argparse
import fcntl
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from benchmarks import (
    admission,
    batches,
    engine,
    fairness,
    gateway,
    hotspots,
    linearity,
    memory,
    overload,
    report,
    routing,
    semcache,
    tenancy,
)
from benchmarks.server import RESULTS, BenchmarkError, say
from benchmarks.sizes import QUICK, Sizes
from deploy.local.files import LocalError

MEASURES: dict[str, Callable[[Sizes], Mapping[str, object]]] = {
    "engine": engine.measure,
    "gateway": gateway.measure,
    "memory": memory.measure,
    "admission": admission.measure,
    "routing": routing.measure,
    "batch": batches.measure,
    "overload": overload.measure,
    "fairness": fairness.measure,
    "linearity": linearity.measure,
    "semcache": semcache.measure,
    "tenancy": tenancy.measure,
    "profile": hotspots.measure,
}
ALL = ("engine", "gateway", "memory", "admission", "routing", "tenancy")


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


def _measure(names: tuple[str, ...], options: argparse.Namespace) -> None:
    sizes = QUICK if options.quick else Sizes()
    if options.rounds:
        sizes = replace(sizes, engine_rounds=options.rounds, gateway_rounds=options.rounds)
    if options.requests:
        sizes = replace(sizes, memory_requests=options.requests)
    if options.at:
        sizes = replace(sizes, profile_concurrency=options.at)
    command = " ".join(("python -m benchmarks", *sys.argv[1:]))
    for name in names:
        began = time.monotonic()
        say(f"=== {name}")
        report.keep(name, command, options.quick, MEASURES[name](sizes))
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
    parser.add_argument("--keep-page", action="store_true", help="leave docs/performance.md alone")
    options = parser.parse_args(arguments)
    numbers = (options.rounds, options.requests, options.at)
    if any(value is not None and value < 1 for value in numbers):
        parser.error("--rounds, --requests and --at must be at least 1")
    return options


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
