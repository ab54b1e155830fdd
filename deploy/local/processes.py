"""Which processes live, told in a way that survives reused process ids."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import psutil


def is_alive(pid: int) -> bool:
    """Whether ``pid`` runs; a zombie that nobody has reaped yet does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def works_in(pid: int, folder: Path) -> bool:
    """Whether the live process ``pid`` has ``folder`` as its working directory."""
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()) == folder
    except (psutil.Error, OSError):
        return False


def pids_in(folder: Path) -> list[int]:
    """Live processes whose working directory is ``folder``."""
    return [process.pid for process in psutil.process_iter() if works_in(process.pid, folder)]


def wait_until(condition: Callable[[], bool], timeout_s: float, every_s: float = 0.05) -> bool:
    """Whether ``condition`` came true within ``timeout_s``."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(every_s)
    return True
