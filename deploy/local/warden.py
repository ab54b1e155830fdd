"""Ends the supervised processes when their supervisor dies without doing so itself.

``python -m deploy.local.warden <state dir> <run>`` sits in a session of its own and
reads a pipe whose other end only the supervisor holds. When that closes, whatever of
this run still lives gets SIGTERM, then SIGKILL. After a clean stop nothing is left and
it just ends. The kernel's parent-death signal alone reaches only direct children.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from deploy.local.reaper import Mark, reap

GRACE_S = 10.0


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    state_dir, run = Path(sys.argv[1]), sys.argv[2]
    sys.stdin.buffer.read()
    reap(Mark(state_dir, run), GRACE_S)


if __name__ == "__main__":
    main()
