"""Progress lines of `make up`: every step says that it began, and how long it took."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from deploy.local.files import LocalError


class Progress:
    def __init__(self, steps: int):
        self._steps = steps
        self._at = 0

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        self._at += 1
        number = f"[{self._at}/{self._steps}]"
        print(f"{number} {name} ...", flush=True)
        began = time.monotonic()
        yield
        print(f"{number} {name}: {time.monotonic() - began:.1f} s", flush=True)

    def say(self, line: str) -> None:
        print(f"      {line}", flush=True)

    def run(
        self, command: Sequence[str], folder: Path, environment: Mapping[str, str], timeout_s: float
    ) -> None:
        """Run a program whose output is shown as it comes; ``LocalError`` when it fails."""
        # It writes to our terminal itself: its own progress lines stay live.
        sys.stdout.flush()
        try:
            result = subprocess.run(
                command,
                check=False,
                cwd=folder,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                timeout=timeout_s,
            )
        except subprocess.TimeoutExpired as error:
            raise LocalError(
                f"{' '.join(command[1:])} took longer than {timeout_s:g} s."
            ) from error
        if result.returncode:
            raise LocalError(
                f"{' '.join(command[1:])} failed with exit status {result.returncode}."
            )
