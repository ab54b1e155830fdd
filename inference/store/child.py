"""Running a long child process: bounded in time, with a sign of life, never left behind."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from inference.store.fetched import Report

POLL_S = 0.2
SIGN_OF_LIFE_S = 5.0
TAIL_LINES = 12


class ChildFailed(Exception):
    """The child ended badly or too late; ``tail`` has its last lines."""

    def __init__(self, reason: str, tail: str):
        super().__init__(f"{reason}\n{tail}".strip())
        self.tail = tail


def run_child(
    argv: Sequence[str],
    *,
    log: Path,
    timeout_s: float,
    report: Report,
    waiting_for: str,
    marker: str = "",
    environ: Mapping[str, str] | None = None,
    pass_fds: tuple[int, ...] = (),
) -> None:
    """Run ``argv`` to its end, its output in ``log``.

    Output lines that start with ``marker`` (if any) go to ``report`` as they come,
    and so does a sign of life whenever nothing was said for a while.
    """
    with log.open("wb") as out:
        child = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=environ,
            pass_fds=pass_fds,
        )
    try:
        with log.open(errors="replace") as lines:
            _watch(child, lines, timeout_s, report, waiting_for, marker)
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
    if child.returncode:
        raise ChildFailed(f"exit status {child.returncode}", _tail(log))


def _watch(
    child: subprocess.Popen[bytes],
    lines: IO[str],
    timeout_s: float,
    report: Report,
    waiting_for: str,
    marker: str,
) -> None:
    began = said = time.monotonic()
    while True:
        ended = child.poll() is not None
        for line in lines:
            if marker and line.startswith(marker):
                report(line.removeprefix(marker).strip())
                said = time.monotonic()
        if ended:
            return
        now = time.monotonic()
        if now - began > timeout_s:
            raise ChildFailed(f"not done after {timeout_s:.0f} s", "")
        if now - said > SIGN_OF_LIFE_S:
            report(f"{waiting_for}: {now - began:.0f} s")
            said = now
        time.sleep(POLL_S)


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-TAIL_LINES:])
