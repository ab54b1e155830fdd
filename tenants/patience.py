"""One bound for how long many futures are waited for, with one timer for all of them.

``asyncio.timeout`` sets and removes a timer for each: a settlement's dearest part, and
nearly every one ends within a millisecond.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any


class Patience:
    """Futures that are ``bound`` fail with TimeoutError after ``wait_s``, some time within a
    quarter of it."""

    def __init__(self, wait_s: float):
        self._wait_s = wait_s
        self._bound: deque[tuple[float, asyncio.Future[Any]]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def bound(self, future: asyncio.Future[Any]) -> asyncio.Future[Any]:
        loop = future.get_loop()
        self._bound.append((loop.time() + self._wait_s, future))
        if self._timer is None:
            self._timer = loop.call_later(self._wait_s / 4, self._look, loop)
        return future

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now, bound = loop.time(), self._bound
        while bound and (bound[0][0] <= now or bound[0][1].done()):
            _, future = bound.popleft()
            if not future.done():
                future.set_exception(TimeoutError())
        self._timer = loop.call_later(self._wait_s / 4, self._look, loop) if bound else None
