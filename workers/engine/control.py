"""The control stream of a replica: aborts and staff's orders, by a way of their own.

So that none waits behind a queue of work; what aborts name may therefore still be coming.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable

import msgspec
from redis.exceptions import RedisError

from inference import wire
from inference.streams import read_after
from tenants.redis_link import RedisLink

log = logging.getLogger(__name__)

# Aborts that may be ahead of what they abort; a client leaves at most this many early.
EARLY_ABORTS_KEPT = 10_000


class EarlyAborts:
    """Aborts whose work has not come yet."""

    def __init__(self) -> None:
        self._ids: OrderedDict[str, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, engine_id: str) -> bool:
        return engine_id in self._ids

    def remember(self, engine_ids: Iterable[str]) -> None:
        for engine_id in engine_ids:
            self._ids[engine_id] = None
        while len(self._ids) > EARLY_ABORTS_KEPT:
            self._ids.popitem(last=False)

    def take(self, engine_id: str) -> bool:
        """Whether this one was aborted before it came."""
        if engine_id not in self._ids:
            return False
        del self._ids[engine_id]
        return True


async def read_control(
    link: RedisLink,
    replica: str,
    on_abort: Callable[[list[str]], None],
    on_order: Callable[[wire.Order], None],
) -> None:
    """Follow the replica's control stream for ever; cancel to stop."""
    stream = wire.control_of(replica)
    # From the beginning: what was aborted in a former life is not here any more, and
    # a start named by this machine's clock would miss aborts if Redis's is behind.
    position: bytes | str = "0-0"
    while True:
        try:
            messages = await read_after(link, stream, position, block_ms=5000, count=100)
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("control.lost", extra={"error": repr(error)})
            await asyncio.sleep(0.5)
            continue
        for message_id, fields in messages:
            position = message_id
            try:
                if b"o" in fields:
                    on_order(wire.decode_order(fields[b"o"]))
                else:
                    on_abort(wire.decode_abort(fields.get(b"a", b"")).engine_ids)
            except msgspec.MsgspecError as error:
                log.error("control.unreadable", extra={"error": repr(error)})
