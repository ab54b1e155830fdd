"""Where the CPU goes: py-spy on the web, chat and control processes under load.

py-spy samples the thread that holds the GIL: which of a container's sleeping threads are
idle it cannot tell reliably, and Python code runs nowhere else. System calls made without
the GIL are not in its samples; the exact user and system time of each thread is shown
beside them.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil

from benchmarks.arithmetic import SelfTime, inclusive_times, self_times
from benchmarks.gateway import get_cost, get_idle, make_asks, put_load
from benchmarks.server import RESULTS, BenchmarkError, say
from benchmarks.sizes import Sizes
from benchmarks.sluice import platform

PROCESSES = ("web", "chat-1", "control")
RATE_HZ = 250
TOP = 30
# Frames of our own code, whose inclusive time says which step of a request costs what.
OURS = ("api/", "inference/", "tenants/", "billing/", "workers/", "config/")
_Cpu = dict[int, tuple[float, float]]


def measure(sizes: Sizes) -> dict[str, object]:
    """Threads, top functions and our own functions of each process."""
    if _py_spy() is None:
        raise BenchmarkError("py-spy is not installed; see the dev extra.")
    with platform("simulated") as server:
        concurrency, asks = sizes.profile_concurrency, make_asks(server)
        pids = {name: server.roots[name] for name in PROCESSES}
        idle = get_idle(server)
        put_load(server, asks, concurrency, sizes.gateway_warm_up_s)
        # Without the profiler, which slows what it looks at: its shares are of this.
        before = {name: _thread_cpu(pid) for name, pid in pids.items()}
        cost = get_cost(server, asks, concurrency, sizes.gateway_throughput_s, idle)
        threads = {
            name: _threads(pid, before[name], cost.summary.requests) for name, pid in pids.items()
        }
        with _recorded(pids, sizes.profile_s):
            say(f"profiling {', '.join(PROCESSES)} for {sizes.profile_s:g} s")
            put_load(server, asks, concurrency, sizes.profile_s + 2)
    return {
        "concurrency": concurrency,
        "cpu_us": cost.cpu_us,
        "processes": {name: {"threads": threads[name], **_tables(name)} for name in PROCESSES},
    }


def _py_spy() -> str | None:
    beside = Path(sys.executable).with_name("py-spy")
    return str(beside) if beside.is_file() else shutil.which("py-spy")


# --- Threads ------------------------------------------------------------------------------


def _thread_cpu(pid: int) -> _Cpu:
    return {t.id: (t.user_time, t.system_time) for t in psutil.Process(pid).threads()}


def _threads(pid: int, before: _Cpu, requests: int) -> list[tuple[str, float, float]]:
    """``(name, user, system)`` microseconds a request of the threads that did something."""
    names = _thread_names(pid)
    found = []
    for thread, (user, system) in _thread_cpu(pid).items():
        user_before, system_before = before.get(thread, (0.0, 0.0))
        user_us = (user - user_before) / requests * 1e6
        system_us = (system - system_before) / requests * 1e6
        if user_us + system_us >= 1:
            found.append((names.get(thread, "not Python's"), user_us, system_us))
    return sorted(found, key=lambda entry: -entry[1] - entry[2])


def _thread_names(pid: int) -> dict[int, str]:
    result = subprocess.run(
        [str(_py_spy()), "dump", "--pid", str(pid), "--json"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    if result.returncode:
        return {}
    threads = json.loads(result.stdout)
    return {thread["os_thread_id"]: thread["thread_name"] or "" for thread in threads}


# --- Stacks -------------------------------------------------------------------------------


def _stacks(name: str) -> Path:
    return RESULTS / f"profile-{name}.txt"


@contextmanager
def _recorded(pids: Mapping[str, int], seconds: float) -> Iterator[None]:
    recorders = [
        subprocess.Popen(
            [
                str(_py_spy()), "record", "--pid", str(pid), "--gil", "--format", "raw",
                "--output", str(_stacks(name)), "--rate", str(RATE_HZ),
                "--duration", str(int(seconds)), "--function",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name, pid in pids.items()
    ]  # fmt: skip
    time.sleep(0.5)
    try:
        yield
    finally:
        for recorder in recorders:
            try:
                _, said = recorder.communicate(timeout=seconds + 30)
            except subprocess.TimeoutExpired:
                recorder.kill()
                _, said = recorder.communicate()
            if recorder.returncode:
                say(f"py-spy: {said.strip()[-300:]}")


def _tables(name: str) -> dict[str, list[tuple[str, float]]]:
    path = _stacks(name)
    lines = path.read_text().splitlines() if path.is_file() else []
    ours = [t for t in inclusive_times(lines) if t.function.partition("(")[2].startswith(OURS)]
    return {"self": _top(self_times(lines)), "ours": _top(ours)}


def _top(times: list[SelfTime]) -> list[tuple[str, float]]:
    return [(entry.function, entry.share) for entry in times[:TOP]]
