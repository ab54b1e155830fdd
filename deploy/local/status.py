"""`make status`: a line a process: name, pid, state, since."""

from __future__ import annotations

import time
from pathlib import Path

from deploy.local import processes
from deploy.local.state import ProcessState, get_lock_holder, read_state


def render_status(state_dir: Path, now: float) -> list[str]:
    """What the supervisor last said, with what has died since corrected."""
    holder = get_lock_holder(state_dir) if state_dir.is_dir() else None
    state = read_state(state_dir)
    lines = [_headline(holder, state.url, state.is_ready)]
    lines += [f"{'NAME':<12} {'PID':>8} {'STATE':<11} SINCE"]
    lines += [_line(process, now) for process in state.processes]
    return lines if state.processes else lines[:1]


def _headline(holder: int | None, url: str, is_ready: bool) -> str:
    if holder is None:
        return "Sluice is not running."
    return (
        f"Sluice {'is ready' if is_ready else 'is not ready yet'} at {url} (supervisor {holder})."
    )


def _line(process: ProcessState, now: float) -> str:
    pid, said = process.pid, process.state
    if pid is not None and not processes.is_alive(pid):
        pid, said = None, "dead"
    since = ""
    if process.since:
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(process.since))
        since = f"{at} ({_age(now - process.since)})"
    again = f" started {process.starts} times" if process.starts > 1 else ""
    note = f" {process.note}" if process.note else ""
    return f"{process.name:<12} {pid or '-':>8} {said:<11} {since}{again}{note}".rstrip()


def _age(seconds: float) -> str:
    whole = max(0, int(seconds))
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if whole >= size:
            return f"{whole // size} {unit}"
    return f"{whole} s"
