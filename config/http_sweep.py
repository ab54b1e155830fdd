"""One timer for what every connection may take: a timer of its own for each costs two system
structures a request, and a second more or less is nothing to a bound of five or fifteen."""

from __future__ import annotations

import asyncio
from typing import Protocol
from weakref import WeakKeyDictionary

SWEEP_S = 1.0


class Timed(Protocol):
    def check_times(self, now: float) -> None:
        """End the connection if it took too long; ``now`` is the loop's clock."""


class Sweeper:
    """Looks at each watched connection once a second, for as long as there is one."""

    def __init__(self, loop: asyncio.AbstractEventLoop):
        self._loop = loop
        self._watched: set[Timed] = set()
        self._is_running = False

    def watch(self, connection: Timed) -> None:
        self._watched.add(connection)
        if not self._is_running:
            self._is_running = True
            self._loop.call_later(SWEEP_S, self._sweep)

    def forget(self, connection: Timed) -> None:
        self._watched.discard(connection)

    def _sweep(self) -> None:
        now = self._loop.time()
        for connection in list(self._watched):
            connection.check_times(now)
        self._is_running = bool(self._watched)
        if self._is_running:
            self._loop.call_later(SWEEP_S, self._sweep)


_sweepers: WeakKeyDictionary[asyncio.AbstractEventLoop, Sweeper] = WeakKeyDictionary()


def sweeper_of(loop: asyncio.AbstractEventLoop) -> Sweeper:
    sweeper = _sweepers.get(loop)
    if sweeper is None:
        sweeper = _sweepers[loop] = Sweeper(loop)
    return sweeper
