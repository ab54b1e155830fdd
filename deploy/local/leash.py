"""Becomes a supervised process that the kernel ends when its supervisor dies.

``python leash.py <supervisor pid> <command…>``: asks for SIGTERM on the parent's death,
then becomes the command. A program of its own and not a ``preexec_fn``, which may
deadlock in a process that has threads, as the supervisor has. Standard library only: it
runs with ``-I -S`` to start in milliseconds.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    supervisor = int(sys.argv[1])
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != supervisor:  # it died before the line above
        sys.exit(1)
    os.execvp(sys.argv[2], sys.argv[2:])


main()
