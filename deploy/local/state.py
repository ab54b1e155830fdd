"""Who supervises this state directory, and how its processes fare: one lock, one file.

The lock is the truth about whether a supervisor lives (the kernel drops it with the
process, however that died); the file is what it last said.
"""

from __future__ import annotations

import errno
import fcntl
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from deploy.local import files


@dataclass
class ProcessState:
    name: str
    pid: int | None = None
    state: str = "stopped"  # running, restarting, stopping, stopped
    since: float = 0.0  # Unix seconds
    starts: int = 0
    note: str = ""


@dataclass
class PlatformState:
    """What the supervisor last said of itself and its processes."""

    pid: int = 0
    url: str = ""
    is_ready: bool = False
    processes: list[ProcessState] = field(default_factory=list)


def write_state(state_dir: Path, state: PlatformState) -> None:
    files.write_json(state_dir / "supervisor.json", asdict(state))


def read_state(state_dir: Path) -> PlatformState:
    """The last state that was written; empty when there is none."""
    raw: dict[str, Any] = files.read_json(state_dir / "supervisor.json")
    try:
        listed = [ProcessState(**entry) for entry in raw.pop("processes", [])]
        return PlatformState(**raw, processes=listed)
    except TypeError:  # written by another release
        return PlatformState()


def take_lock(state_dir: Path) -> int | None:
    """A descriptor that holds the supervisor's lock, or None while another process does."""
    handle = os.open(state_dir / "supervisor.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return None
        raise
    os.ftruncate(handle, 0)
    os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
    return handle


def claim_lock(handle: int) -> None:
    """Name this process as the holder of a lock that it inherited."""
    os.ftruncate(handle, 0)
    os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)


def get_lock_holder(state_dir: Path) -> int | None:
    """The process id of the live supervisor, or None."""
    handle = take_lock(state_dir)
    if handle is not None:
        os.close(handle)
        return None
    try:
        return int((state_dir / "supervisor.lock").read_text())
    except (OSError, ValueError):
        return None
