"""Finds and ends processes that outlived their supervisor.

Every supervised process and all its descendants carry in their environment which state
directory they belong to, which run of the supervisor started them, and as what. An
engine killed with -9 leaves children with gigabytes of memory behind, some in sessions
of their own: the mark is what they still have in common.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import psutil

from deploy.local import processes

STATE_DIR_MARK = "SLUICE_SUPERVISED"
RUN_MARK = "SLUICE_SUPERVISOR_RUN"
NAME_MARK = "SLUICE_PROCESS"


@dataclass(frozen=True)
class Mark:
    """Whose processes are meant; None stands for any run or any name."""

    state_dir: Path
    run: str | None = None
    name: str | None = None

    def environment(self) -> dict[str, str]:
        return {
            STATE_DIR_MARK: str(self.state_dir),
            RUN_MARK: self.run or "",
            NAME_MARK: self.name or "",
            # setproctitle would write its titles over /proc/<pid>/environ, and so the mark.
            "SPT_NOENV": "1",
        }

    def fits(self, environment: dict[str, str]) -> bool:
        return (
            environment.get(STATE_DIR_MARK) == str(self.state_dir)
            and self.run in (None, environment.get(RUN_MARK))
            and self.name in (None, environment.get(NAME_MARK))
        )


def find_marked(mark: Mark) -> list[psutil.Process]:
    """Live processes that carry ``mark``, this one and its ancestors left out."""
    spared = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    return [
        process
        for process in psutil.process_iter()
        if process.pid not in spared and _carries(process, mark)
    ]


def reap(mark: Mark, grace_s: float = 0.0) -> list[int]:
    """End everything that carries ``mark``: SIGTERM and ``grace_s`` first, then SIGKILL.

    Returns the process ids that were found.
    """
    found = find_marked(mark)
    if grace_s and found:
        _signal(found, signal.SIGTERM)
        processes.wait_until(lambda: not find_marked(mark), grace_s, every_s=0.2)
    # What is dying may still fork: repeat until nothing is left.
    processes.wait_until(lambda: not _kill_marked(mark), timeout_s=10, every_s=0.1)
    return [process.pid for process in found]


def _kill_marked(mark: Mark) -> bool:
    left = find_marked(mark)
    _signal(left, signal.SIGKILL)
    return bool(left)


def _signal(found: list[psutil.Process], number: signal.Signals) -> None:
    for process in found:
        try:
            process.send_signal(number)  # psutil checks that the id was not reused
        except psutil.Error:
            continue


def _carries(process: psutil.Process, mark: Mark) -> bool:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return mark.fits(process.environ())
    except (psutil.Error, OSError):  # gone, or another user's
        return False
