"""`make down`: stop the supervisor, wherever it runs, and whatever it left."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from deploy.local import processes, services
from deploy.local.files import LocalError
from deploy.local.reaper import Mark, reap
from deploy.local.state import PlatformState, ProcessState, get_lock_holder, read_state, write_state

# The sum of what the processes may take to finish their work, and some.
STOP_TIMEOUT_S = 180.0


def down(state_dir: Path) -> int:
    """Stop everything of ``state_dir`` and wait for it; stopping what is stopped is fine."""
    if not state_dir.is_dir():
        print("Sluice is not running.")
        return 0
    holder = get_lock_holder(state_dir)
    if holder is not None:
        _stop_supervisor(state_dir, holder)
    left_over = reap(Mark(state_dir), grace_s=5.0)
    running = [service.name for service in services.ALL if service.pid(state_dir) is not None]
    services.stop_all(state_dir)
    write_state(state_dir, PlatformState(processes=_stopped(state_dir)))
    if left_over or running:
        print(f"Stopped what an earlier run left: {[*left_over, *running]}.")
    print("Sluice is stopped." if holder or left_over or running else "Sluice is not running.")
    return 0


def _stop_supervisor(state_dir: Path, pid: int) -> None:
    print(f"Stopping Sluice (process {pid}) ...", flush=True)
    os.kill(pid, signal.SIGTERM)
    if not processes.wait_until(lambda: get_lock_holder(state_dir) != pid, STOP_TIMEOUT_S, 0.2):
        raise LocalError(
            f"Process {pid} did not stop within {STOP_TIMEOUT_S:g} s; see `make logs`."
        )


def _stopped(state_dir: Path) -> list[ProcessState]:
    known = read_state(state_dir).processes
    for process in known:
        process.pid, process.state = None, "stopped"
    return known
