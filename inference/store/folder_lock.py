"""One pull of a model and version at a time, across processes."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from inference.errors import StoreBusy
from inference.store.fetched import Report

POLL_S = 0.2
SIGN_OF_LIFE_S = 5.0


@contextmanager
def locked(path: Path, *, timeout_s: float, report: Report) -> Iterator[int]:
    """Hold the lock file ``path``; the kernel frees it when its last holder dies.

    Yields the descriptor. The file stays: removing it would let a third process
    lock a new file of the same name beside a waiting second.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        _wait(descriptor, path.stem, timeout_s, report)
        yield descriptor
    finally:
        os.close(descriptor)


def _wait(descriptor: int, name: str, timeout_s: float, report: Report) -> None:
    began = time.monotonic()
    said = began - SIGN_OF_LIFE_S
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            now = time.monotonic()
        if now - began > timeout_s:
            raise StoreBusy(f"Another pull of {name} did not end within {timeout_s:.0f} s.")
        if now - said >= SIGN_OF_LIFE_S:
            report("waiting for another pull of the same model")
            said = now
        time.sleep(POLL_S)
