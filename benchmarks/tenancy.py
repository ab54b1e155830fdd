"""Tenancy at scale: 100,000 organizations and 1,000,000 keys, in PostgreSQL of their own.

The databases are embedded ones in ``.sluice/bench-tenancy``, kept between runs, because
filling them takes minutes. What is measured runs in ``benchmarks.tenancy_process``, with
the platform's own logins: row-level security holds as it does in an installation.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

from benchmarks.prompts import BASE_DIR
from benchmarks.server import LOGS, PYTHON, RESULTS, BenchmarkError, python_environment, say
from benchmarks.sizes import Sizes
from deploy.local import postgres, valkey

STATE_DIR = BASE_DIR / ".sluice" / "bench-tenancy"
PLAN = RESULTS / "tenancy-plan.json"
FOUND = RESULTS / "tenancy-found.json"
TIMEOUT_S = 3600.0


def measure(sizes: Sizes) -> dict[str, object]:
    RESULTS.mkdir(exist_ok=True)
    PLAN.write_text(json.dumps(asdict(sizes)))
    FOUND.unlink(missing_ok=True)
    with _databases() as environment:
        _run("migrate", (PYTHON, "manage.py", "migrate", "-v", "0"), environment)
        say("filling and measuring")
        _run(
            "measure",
            (PYTHON, "-m", "benchmarks.tenancy_process", str(PLAN), str(FOUND)),
            environment,
        )
    found: dict[str, object] = json.loads(FOUND.read_text())
    return found


@contextmanager
def _databases() -> Iterator[dict[str, str]]:
    """The environment of a process that has them, with every role's login."""
    scale = STATE_DIR / (
        "quick" if json.loads(PLAN.read_text())["tenancy_keys"] < 10**6 else "full"
    )
    scale.mkdir(parents=True, exist_ok=True)
    say("starting PostgreSQL and Valkey")
    try:
        postgres.start(scale)
        redis_url = valkey.start(scale)
        yield python_environment(
            SLUICE_STATE_DIR=str(scale),
            REDIS_URL=redis_url,
            LOG_FORMAT="console",
            LOG_LEVEL="WARNING",
            SLUICE_ENV="test",
            **postgres.addresses(scale),
        )
    finally:
        valkey.stop(scale)
        postgres.stop(scale)


def _run(name: str, command: tuple[str, ...], environment: dict[str, str]) -> None:
    LOGS.mkdir(parents=True, exist_ok=True)
    log_path = LOGS / f"tenancy-{name}.log"
    with open(log_path, "wb") as log:
        result = subprocess.run(
            command,
            cwd=BASE_DIR,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            timeout=TIMEOUT_S,
            check=False,
        )
    if result.returncode:
        shown = os.path.relpath(log_path, BASE_DIR)
        raise BenchmarkError(f"Tenancy: {name} failed; see {shown}.")
