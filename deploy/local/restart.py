"""`make restart`: every process anew, one after another, while the platform serves.

Each is asked to stop, finishes what it has, is started again by the supervisor, and must
be ready before the next one's turn. The embedded databases stay.
"""

from __future__ import annotations

import http.client
import os
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from deploy.local import files, processes
from deploy.local.files import LOOPBACK, LocalError
from deploy.local.state import ProcessState, get_lock_holder, read_state

# Longer than any process may take to finish its work (``programs``), and weights to load.
STOP_TIMEOUT_S = 60.0
READY_TIMEOUT_S = 600.0
PROBE_TIMEOUT_S = 5.0
# Who has no page to ask is ready when it has run for so long.
SETTLED_S = 1.0
_SERVICES = {"postgres", "valkey"}


def restart(state_dir: Path, names: Iterable[str] = (), say: Callable[[str], None] = print) -> int:
    """Restart the named processes, or all, in the order in which they stop. Exit status."""
    if get_lock_holder(state_dir) is None:
        raise LocalError("Sluice is not running.")
    known = [each.name for each in read_state(state_dir).processes if each.name not in _SERVICES]
    wanted = set(names) or set(known)
    if unknown := wanted.difference(known):
        raise LocalError(f"No process is called {sorted(unknown)}; there are {', '.join(known)}.")
    for name in known:
        if name in wanted:
            took_s = restart_one(state_dir, name)
            say(f"{name} is back after {took_s:.1f} s")
    return 0


def restart_one(state_dir: Path, name: str) -> float:
    """Restart one process; returns after how many seconds it was ready again."""
    began, before = time.monotonic(), _find(state_dir, name)
    if before.pid is None:
        raise LocalError(f"{name} is not running; its supervisor is starting it.")
    os.kill(before.pid, signal.SIGTERM)
    _wait(lambda: _is_anew(_find(state_dir, name), before), STOP_TIMEOUT_S, f"{name} did not stop")
    port = files.read_json(state_dir / "ports.json").get(name)
    is_ready = (lambda: _is_ready(port)) if port else (lambda: _is_settled(state_dir, name))
    _wait(is_ready, READY_TIMEOUT_S, f"{name} did not become ready")
    return time.monotonic() - began


def _find(state_dir: Path, name: str) -> ProcessState:
    for process in read_state(state_dir).processes:
        if process.name == name:
            return process
    raise LocalError(f"No process is called {name}.")


def _is_anew(now: ProcessState, before: ProcessState) -> bool:
    return now.starts > before.starts and now.pid is not None


def _is_settled(state_dir: Path, name: str) -> bool:
    process = _find(state_dir, name)
    return process.state == "running" and time.time() - process.since >= SETTLED_S


def _is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=PROBE_TIMEOUT_S)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _wait(condition: Callable[[], bool], timeout_s: float, complaint: str) -> None:
    if not processes.wait_until(condition, timeout_s, 0.1):
        raise LocalError(f"{complaint} within {timeout_s:g} s; see `make logs`.")
