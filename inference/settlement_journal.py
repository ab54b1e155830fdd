"""What a gateway settled lately, on its disk: for who comes after a kill -9.

Redis may lose settlements that the ledger has not counted yet, or be away while they are
made; then only the gateway knows of them. What is written here outlives the process (not the
machine: nothing waits for the disk). Reports of one turn of the loop share a write, which is
made before their clients see their answers end. Each segment is locked by who writes it, so
that a free lock says that nobody will deliver it.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger(__name__)

# A segment is begun every so often, and removed when it has been complete for ``kept_s``.
SEGMENT_S = 10.0
SUFFIX = ".journal"


class Journal:
    """``may_forget`` says whether all that is old was delivered. Use it on one event loop."""

    def __init__(self, folder: Path, gateway: str, kept_s: float, may_forget: Callable[[], bool]):
        self._folder = folder
        self._gateway = gateway
        self._kept_s = kept_s
        self._may_forget = may_forget
        # Path, descriptor and beginning (monotonic seconds) of each, the oldest first.
        self._segments: deque[tuple[Path, int, float]] = deque()
        self._unwritten: list[bytes] = []
        self._begun = 0
        self._is_broken = False

    def note(self, report: bytes) -> None:
        """Keep it; on the disk when this turn of the loop ends."""
        self._unwritten.append(framed(report))
        if len(self._unwritten) == 1:
            asyncio.get_running_loop().call_soon(self._write)

    def remove(self) -> None:
        """Everything was delivered, or lies elsewhere."""
        self._unwritten.clear()
        while self._segments:
            self._remove_oldest()

    def adopted(self) -> list[bytes]:
        """The segments of gateways that died, whole; they are gone from the disk."""
        found = []
        for path in sorted(self._folder.glob(f"*{SUFFIX}")) if self._folder.is_dir() else []:
            if (content := _taken(path)) is not None:
                found.append(content)
        return found

    def _write(self) -> None:
        content, self._unwritten = b"".join(self._unwritten), []
        if not content:
            return
        try:
            now = time.monotonic()
            if not self._segments or now - self._segments[-1][2] > SEGMENT_S:
                self._begin_segment(now)
            _write_all(self._segments[-1][1], content)
            self._is_broken = False
        except OSError as error:  # a full disk stops no request; Redis has the report
            if not self._is_broken:
                log.error("settlement.journal_failed", extra={"error": repr(error)})
            self._is_broken = True

    def _begin_segment(self, now: float) -> None:
        while (
            len(self._segments) > 1
            and now - self._segments[1][2] > self._kept_s
            and self._may_forget()
        ):
            self._remove_oldest()
        self._folder.mkdir(parents=True, exist_ok=True)
        self._begun += 1
        path = self._folder / f"{self._gateway}.{os.getpid()}.{self._begun}{SUFFIX}"
        # It has its name only once it is locked: whoever finds it unlocked takes it away.
        unnamed = path.with_suffix(".new")
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        descriptor = os.open(unnamed, flags, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        unnamed.rename(path)
        self._segments.append((path, descriptor, now))

    def _remove_oldest(self) -> None:
        path, descriptor, _ = self._segments.popleft()
        path.unlink(missing_ok=True)
        os.close(descriptor)


def framed(report: bytes) -> bytes:
    """A report behind its length, four bytes: as ``settlement`` reads files of them."""
    return len(report).to_bytes(4, "big") + report


def _write_all(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]


def _taken(path: Path) -> bytes | None:
    """The content of a segment whose writer is dead, and the segment removed."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Between opening and locking, who was before us may have taken and removed it.
        if os.fstat(descriptor).st_nlink == 0:
            return None
        content = path.read_bytes()
        path.unlink()
        return content
    except OSError:
        return None
    finally:
        os.close(descriptor)
