"""What is asked of one script within a turn of the event loop, in one call of it.

A call costs Redis and us as much as what it does for one request, and requests that come at
once are mostly of the same organization, whose state is then read and written once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

from redis.exceptions import RedisError, ResponseError

from tenants.redis_link import Part, RedisLink, Script

# Redis serves nobody else meanwhile: at most half a millisecond.
MOST_AT_ONCE = 64

Item = TypeVar("Item")
_Waiting = tuple[Item, "asyncio.Future[Any]"]


class Together(Generic[Item]):
    """``ask`` gives an item's own part of the answer. ``pack`` makes keys and arguments of
    several items; the script answers with a list, an element for each."""

    def __init__(
        self,
        link: RedisLink,
        script: Script,
        pack: Callable[[Sequence[Item]], tuple[list[str], list[Part]]],
    ):
        self._link = link
        self._script = script
        self._pack = pack
        self._waiting: list[_Waiting[Item]] = []

    def ask(self, item: Item) -> asyncio.Future[Any]:
        """Fails with RedisError. Who is cancelled has asked all the same."""
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self._waiting.append((item, future))
        if len(self._waiting) == 1:
            loop.call_soon(self._leave)
        return future

    def _leave(self) -> None:
        # All of it, so that whatever is asked of another script afterwards comes after it.
        waiting, self._waiting = self._waiting, []
        for start in range(0, len(waiting), MOST_AT_ONCE):
            self._call(waiting[start : start + MOST_AT_ONCE])

    def _call(self, batch: list[_Waiting[Item]], *, by_text: bool = False) -> None:
        keys, arguments = self._pack([item for item, _ in batch])
        name, script = ("EVAL", self._script.text) if by_text else ("EVALSHA", self._script.sha)
        try:
            answering = self._link.start(name, script, len(keys), *keys, *arguments)
        except RedisError as error:
            _fail(batch, error)
            return
        answering.add_done_callback(partial(self._answered, batch, by_text))

    def _answered(
        self, batch: list[_Waiting[Item]], by_text: bool, answering: asyncio.Future[Any]
    ) -> None:
        error = RedisError("cancelled") if answering.cancelled() else answering.exception()
        if error is None:
            for (_, future), answer in zip(batch, answering.result(), strict=True):
                if not future.done():
                    future.set_result(answer)
        elif not by_text and isinstance(error, ResponseError) and _is_unknown_script(error):
            # Redis has not seen the script, or lost it.
            self._call(batch, by_text=True)
        else:
            _fail(batch, error)


def _is_unknown_script(error: ResponseError) -> bool:
    return str(error).startswith("NOSCRIPT")


def _fail(batch: Sequence[_Waiting[Any]], error: BaseException) -> None:
    for _, future in batch:
        if not future.done():
            # Each its own: an exception collects the frames that it passes through.
            future.set_exception(type(error)(*error.args))
