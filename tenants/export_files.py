"""Files that exports wrote: private, named at random, and gone after a week."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from pathlib import Path

from django.conf import settings

from tenants.errors import InvalidInput

KEPT_FOR = timedelta(days=7)
# A file that would be larger fills the disk of everybody.
MOST_BYTES = 2 * 1024**3
LINES_A_CHUNK = 200
_NAME = re.compile(r"job_[0-9A-Za-z]{16}\.\d+\.(csv|jsonl)")


@dataclass(frozen=True)
class Written:
    name: str
    rows: int
    bytes: int
    sha256: str


def folder() -> Path:
    path = Path(settings.STATE_DIR) / "exports"
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def write_file(name: str, lines: Iterator[str], report: Callable[[int], None]) -> Written:
    """All of ``lines``, or no file of this name. ``report`` is told how many were written,
    every few hundred, and may raise to stop it."""
    checked_name(name)
    part = folder() / f"{name}.part"
    digest, rows, size = hashlib.sha256(), 0, 0
    try:
        # Of an attempt that died there may be one under another name, never under this.
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            while chunk := list(islice(lines, LINES_A_CHUNK)):
                data = "".join(chunk).encode()
                rows, size = rows + len(chunk), size + len(data)
                if size > MOST_BYTES:
                    raise InvalidInput("The export would be too large; ask for less at once.")
                digest.update(data)
                file.write(data)
                report(rows)
            file.flush()
            os.fsync(file.fileno())
        part.rename(folder() / name)
    finally:
        part.unlink(missing_ok=True)
    return Written(name, rows, size, digest.hexdigest())


def path_of(name: str) -> Path | None:
    """None once it is purged."""
    path = folder() / checked_name(name)
    return path if path.is_file() else None


def checked_name(name: str) -> str:
    """Names come from rows; still, none may lead out of the folder."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not the name of an export.")
    return name


def purge_files(now: float | None = None) -> int:
    """Delete what is older than a week: exports, and parts that died with their worker."""
    oldest = (time.time() if now is None else now) - KEPT_FOR.total_seconds()
    purged = 0
    for path in folder().iterdir():
        if path.stat().st_mtime < oldest:
            path.unlink(missing_ok=True)
            purged += 1
    return purged
