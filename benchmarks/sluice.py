"""Our own platform, brought up as ``make up`` does, on a state directory of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg
import redis

from benchmarks.prompts import BASE_DIR
from benchmarks.served import Served, has_cpu_engine
from benchmarks.server import (
    LOGS,
    PYTHON,
    BenchmarkError,
    Server,
    python_environment,
    say,
)
from billing.usage import STREAM as USAGE_STREAM
from config.env import read_env_file
from deploy.local import files
from deploy.local.state import read_state
from workers.engines import cpu

STATE_DIR = BASE_DIR / ".sluice" / "bench"
UP_TIMEOUT_S = 900.0
DOWN_TIMEOUT_S = 240.0
MANAGE_TIMEOUT_S = 120.0
LEDGER_TIMEOUT_S = 60.0

# Every limit stays set, so that the admission script checks each of them, and is out of
# reach. The announcement makes the gateways forget the principals they cached.
_RAISE_LIMITS = """
from tenants.actions import notify_all_changed
from tenants.models import Plan
from django.db import transaction
with transaction.atomic():
    Plan.objects.update(
        requests_per_minute=2_000_000_000,
        tokens_per_minute=2_000_000_000,
        concurrent_requests=1_000_000,
        monthly_tokens=10**15,
    )
    notify_all_changed()
"""


@dataclass(frozen=True)
class EngineSettings:
    """How the registry has the chat model loaded; vLLM's own server gets the same."""

    path: Path
    dtype: str
    max_model_len: int
    max_num_seqs: int
    options: dict[str, Any]
    # Of the CPU build only, elsewhere 0 and empty.
    kv_cache_gib: int = 0
    threads: str = ""

    @property
    def is_eager(self) -> bool:
        """Whether the worker has vLLM neither compile nor capture graphs."""
        return bool(self.threads)


@contextmanager
def platform(
    engine: str, profile: str = "instant", served: Served | None = None, **settings: str
) -> Iterator[Server]:
    """The running platform, its limits raised out of reach; ``settings`` as ``make up`` reads."""
    served = served or Served()
    environment = process_environment(engine, profile) | served.environment() | settings
    say(f"starting Sluice (engine: {engine}, profile: {profile})")
    try:
        _run(
            "up",
            (PYTHON, "-m", "deploy.local", "up", "--detach"),
            environment,
            UP_TIMEOUT_S,
        )
        _run("limits", (PYTHON, "manage.py", "shell", "-c", _RAISE_LIMITS), environment)
        yield _server(served)
    finally:
        down = (PYTHON, "-m", "deploy.local", "down")
        _run("down", down, environment, DOWN_TIMEOUT_S)


def process_environment(engine: str, profile: str) -> dict[str, str]:
    model_store = os.environ.get("MODEL_STORE") or str(BASE_DIR / ".sluice" / "models")
    return python_environment(
        SLUICE_STATE_DIR=str(STATE_DIR),
        MODEL_STORE=model_store,
        PORT=str(files.free_port()),
        ENGINE=engine,
        SIMULATED_PROFILE=profile,
    )


def _run(
    name: str,
    command: tuple[str, ...],
    environment: dict[str, str],
    timeout_s: float = MANAGE_TIMEOUT_S,
) -> None:
    LOGS.mkdir(parents=True, exist_ok=True)
    log_path = LOGS / f"sluice-{name}.log"
    with open(log_path, "wb") as log:
        result = subprocess.run(
            command,
            cwd=BASE_DIR,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            timeout=timeout_s,
            check=False,
        )
    if result.returncode:
        raise BenchmarkError(f"Sluice: {name} failed; see {log_path.relative_to(BASE_DIR)}.")


def _server(served: Served) -> Server:
    state = read_state(STATE_DIR)
    roots = {process.name: process.pid for process in state.processes if process.pid}
    key = read_env_file(STATE_DIR / "demo.env")["OPENAI_API_KEY"]
    return Server("sluice", state.url, served.deployment, roots, key)


# --- What the database knows -----------------------------------------------------------


def recorded_requests() -> int:
    """Usage events in the ledger's table, once no report is on its way there.

    A request's report is in the stream before its answer ends, and leaves the stream when
    its row is committed.
    """
    client = redis.Redis.from_url(_runtime("REDIS_URL"), socket_timeout=5, socket_connect_timeout=5)
    with client:
        deadline = time.monotonic() + LEDGER_TIMEOUT_S
        while waiting := client.xlen(USAGE_STREAM):
            if time.monotonic() > deadline:
                raise BenchmarkError(f"{waiting} usage reports did not reach the ledger.")
            time.sleep(0.2)
    return int(_query("SELECT count(*) FROM billing_usageevent")[0])


def charged_engine_s() -> float:
    """Engine seconds of all usage in the ledger's table, once no report is on its way."""
    recorded_requests()
    return float(_query("SELECT coalesce(sum(engine_us), 0) FROM billing_usageevent")[0]) / 1e6


def replica_metric(replica: str, name: str) -> float:
    """The newest value of one of a replica's metrics without labels."""
    url = f"http://127.0.0.1:{files.read_json(STATE_DIR / 'ports.json')[replica]}/metrics"
    with urllib.request.urlopen(url, timeout=5) as answer:
        found = re.search(rf"^{name} (\S+)", answer.read().decode(), re.MULTILINE)
    if found is None:
        raise BenchmarkError(f"{replica} shows no {name}.")
    return float(found[1])


def engine_settings(served: Served | None = None) -> EngineSettings:
    """Of the chat deployment, as its worker loads it."""
    path, dtype, length, options, running = _query(
        "SELECT v.path, v.dtype, v.max_context_tokens, v.engine_options, d.max_running_requests"
        " FROM inference_modelversion v JOIN inference_deployment d ON d.version_id = v.id"
        " WHERE d.name = %s",
        (served or Served()).deployment,
    )
    environment = process_environment("vllm", "instant")
    settings = EngineSettings(
        path=Path(environment["MODEL_STORE"]) / path,
        dtype=dtype,
        max_model_len=length,
        max_num_seqs=running,
        options=json.loads(options) if isinstance(options, str) else options,
    )
    if not has_cpu_engine():
        return settings
    return replace(
        settings,
        dtype=cpu.dtype_for(dtype),
        kv_cache_gib=int(environment.get("KV_CACHE_GIB") or 1),
        threads=cpu.threads_for(environment.get("ENGINE_THREADS") or "auto"),
    )


def _query(sql: str, *values: str) -> tuple[Any, ...]:
    with psycopg.connect(_runtime("DATABASE_URL"), connect_timeout=5) as connection:
        row = connection.execute(sql.encode(), values).fetchone()
    if row is None:
        raise BenchmarkError("The platform's database has no chat deployment.")
    return row


def _runtime(name: str) -> str:
    return read_env_file(STATE_DIR / "runtime.env")[name]
