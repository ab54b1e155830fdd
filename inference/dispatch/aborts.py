"""Telling replicas to stop: beside the queue, because a stop must not wait behind work."""

from __future__ import annotations

import asyncio
import logging

from redis.exceptions import RedisError

from inference import wire
from inference.dispatch.bypass import Bypass
from tenants.redis_link import RedisLink

log = logging.getLogger(__name__)

ABORTS_KEPT = 1_000
# A replica reads its aborts within seconds; the stream of one that never returns must go.
ABORTS_EXPIRY_MS = 3_600_000


class Aborts:
    """Aborts of one moment for one replica leave together."""

    def __init__(self, link: RedisLink, bypass: Bypass):
        self._link = link
        self._bypass = bypass
        self._waiting: dict[str, list[str]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def send(self, replica: str, engine_id: str) -> None:
        waiting = self._waiting.setdefault(replica, [])
        waiting.append(engine_id)
        if len(waiting) == 1:
            task = asyncio.get_running_loop().create_task(self._send(replica))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _send(self, replica: str) -> None:
        engine_ids = self._waiting.pop(replica)
        if self._bypass.send_abort(replica, engine_ids):
            return
        control = wire.control_of(replica)
        try:
            await self._link.call(
                *("XADD", control, "MAXLEN", "~", ABORTS_KEPT, "*"),
                *("a", wire.encode(wire.Abort(engine_ids))),
            )
            await self._link.call("PEXPIRE", control, ABORTS_EXPIRY_MS)
        except (RedisError, OSError, TimeoutError) as error:
            # The sequence then runs to its max_tokens; its output is dropped.
            log.warning("abort.failed", extra={"replica": replica, "error": repr(error)})
