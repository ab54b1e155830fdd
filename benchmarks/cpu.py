"""CPU seconds and memory of servers, summed over their process trees."""

from __future__ import annotations

from collections.abc import Mapping

import psutil


class CpuMeter:
    """``roots`` names a process tree by its first process's id."""

    def __init__(self, roots: Mapping[str, int]):
        self._roots = {name: psutil.Process(pid) for name, pid in roots.items()}

    def read(self) -> dict[str, float]:
        """User plus system seconds so far, ended and reaped descendants included."""
        return {name: _tree_s(process) for name, process in self._roots.items()}

    def since(self, before: Mapping[str, float]) -> dict[str, float]:
        return {name: now - before[name] for name, now in self.read().items()}


def _tree_s(root: psutil.Process) -> float:
    total = 0.0
    for process in [root, *root.children(recursive=True)]:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def rss_bytes(pid: int) -> int:
    return int(psutil.Process(pid).memory_info().rss)
