"""A server of ours or a peer's as a child process: started, awaited, and surely stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.prompts import BASE_DIR
from deploy.local.reaper import Mark, reap

RESULTS = Path(__file__).parent / "results"
LOGS = RESULTS / "logs"
START_TIMEOUT_S = 240.0
STOP_TIMEOUT_S = 30.0


class BenchmarkError(Exception):
    """A benchmark cannot go on; the message says why and where to look."""


@dataclass(frozen=True)
class Server:
    """Something that answers OpenAI's API on loopback."""

    name: str
    url: str  # without /v1
    model: str
    roots: Mapping[str, int]  # first process of each tree whose CPU counts
    key: str = ""

    @property
    def chat(self) -> str:
        return f"{self.url}/v1/chat/completions"


def say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


@contextmanager
def child(
    name: str,
    command: Sequence[str],
    environment: Mapping[str, str],
    is_ready: Callable[[], bool],
) -> Iterator[int]:
    """Run ``command`` until the block ends; its process id, once ``is_ready``.

    Its descendants are marked as ours, so that none of them (an engine's processes have
    sessions of their own) outlives it.
    """
    mark = Mark(RESULTS, run=str(os.getpid()), name=name)
    LOGS.mkdir(parents=True, exist_ok=True)
    log_path = LOGS / f"{name}.log"
    with open(log_path, "wb") as log:
        process = subprocess.Popen(
            list(command),
            cwd=BASE_DIR,
            env={**environment, **mark.environment()},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        _await(process, is_ready, log_path)
        yield process.pid
    finally:
        _stop(process)
        reap(mark)


def _await(process: subprocess.Popen[bytes], is_ready: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not is_ready():
        if process.poll() is not None:
            raise BenchmarkError(f"It ended with {process.returncode}; see {_shown(log)}.")
        if time.monotonic() > deadline:
            raise BenchmarkError(f"Not ready in {START_TIMEOUT_S:g} s; see {_shown(log)}.")
        time.sleep(0.25)


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def answers(url: str, key: str = "") -> Callable[[], bool]:
    """Whether a GET of ``url`` answers 200 now."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - loopback

    def probe() -> bool:
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
                return int(answer.status) == 200
        except (urllib.error.URLError, OSError):
            return False

    return probe


def _shown(path: Path) -> str:
    return str(path.relative_to(BASE_DIR))


def python_environment(**more: str) -> dict[str, str]:
    """This process's environment without the platform's own choices."""
    kept = {name: value for name, value in os.environ.items() if name not in _NOT_PASSED_ON}
    return {**kept, "PYTHONUNBUFFERED": "1", **more}


# A platform that a benchmark starts has its own state, port and engine, whatever the
# shell was set up for.
_NOT_PASSED_ON = frozenset(
    {
        "SLUICE_STATE_DIR",
        "SLUICE_URL",
        "DATABASE_URL",
        "DATABASE_WEB_URL",
        "DATABASE_STAFF_URL",
        "REDIS_URL",
        "CELERY_BROKER_URL",
        "PORT",
        "ENGINE",
        "SIMULATED_PROFILE",
        "CHAT_REPLICAS",
        "CHAT_MODEL",
        "CHAT_DTYPE",
        "CHAT_OPTIONS",
        "CHAT_RUNNING",
        "OPENAI_API_KEY",
        "OPENAI_BASE_URL",
    }
)

PYTHON = sys.executable
