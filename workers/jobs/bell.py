"""How a message reaches the threads that wait for work."""

from __future__ import annotations

import threading


class Bell:
    """A ring between two looks is not missed: whoever waits says which one it heard last."""

    def __init__(self) -> None:
        self._rung = threading.Condition()
        self._count = 0

    @property
    def count(self) -> int:
        return self._count

    def ring(self) -> None:
        with self._rung:
            self._count += 1
            self._rung.notify_all()

    def wait(self, heard: int, timeout_s: float) -> bool:
        """Until it rings, or rang after ``heard``; False if it did not in time."""
        with self._rung:
            return self._rung.wait_for(lambda: self._count != heard, timeout_s)


# One a process: the task ``jobs.run`` rings it, the runner's threads wait for it.
BELL = Bell()
