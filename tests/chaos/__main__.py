"""``python -m tests.chaos [--seed 7] [--only replicas_killed,redis_gone] [--short]``.

Brings a platform up on folders of its own, breaks it, checks what clients recorded, and
takes it down again. Exit status 1 when an invariant does not hold.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from pathlib import Path

import uvloop

from tests.chaos import report
from tests.chaos.ground import Ground
from tests.chaos.run import BY_ENGINE, run
from tests.chaos.scenarios import FULL, SHORT

ROOT = Path(__file__).resolve().parents[2]


async def main(options: argparse.Namespace) -> int:
    # Models are converted once, in the checkout.
    os.environ.setdefault("MODEL_STORE", str(ROOT / ".sluice" / "models"))
    known = BY_ENGINE[options.engine]
    ground = Ground(engine=options.engine, gateways=options.gateways, replicas=options.replicas)
    names = options.only.split(",") if options.only else list(known)
    began = time.monotonic()
    print(f"seed {options.seed}: bringing a platform up", flush=True)
    try:
        await ground.start()
        size = SHORT if options.short else FULL
        results, overall = await run(ground, names, size, options.seed)
    finally:
        await ground.stop(Path(options.logs) if options.logs else None)
    print(f"\n{report.table(results)}\n\n{report.findings(results, overall)}\n")
    report.write(Path(options.out), options.seed, ground.engine, results, overall)
    holds = all(each.holds for each in [*results, *overall])
    print(
        f"{'All holds' if holds else 'SOMETHING DOES NOT HOLD'}: seed {options.seed}, "
        f"{time.monotonic() - began:.0f} s; {options.out}"
    )
    return 0 if holds else 1


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--engine", choices=BY_ENGINE, default="simulated")
    parser.add_argument("--only", default="", help="scenarios, separated by commas")
    parser.add_argument("--short", action="store_true", help="the sizes of a run in CI")
    parser.add_argument("--gateways", type=int, default=2)
    parser.add_argument("--replicas", type=int, default=0, help="3, of vLLM 2")
    parser.add_argument("--out", default="chaos.json")
    parser.add_argument("--logs", default="", help="a folder for the processes' logs")
    options = parser.parse_args()
    options.replicas = options.replicas or (3 if options.engine == "simulated" else 2)
    known = BY_ENGINE[options.engine].keys()
    if unknown := set(filter(None, options.only.split(","))) - known:
        parser.error(f"{', '.join(sorted(unknown))}: there are {', '.join(known)}")
    return options


if __name__ == "__main__":
    sys.exit(uvloop.run(main(parse())))
