"""Deltas on their way back: one Redis message for each gateway and engine step.

Deltas that arrive while a write is in flight leave together in the next one, so
load makes messages longer, not more. A gateway's mailbox that does not exist has
no reader: after ``GATEWAY_GRACE_S`` its requests are aborted. The worker notes
what each finished sequence used, for requests whose gateway dies before it
settles them.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable

from redis.exceptions import RedisError

from inference import wire
from inference.wire import Delta
from tenants.redis_link import RedisLink
from workers.engine.bypass import BypassServer

log = logging.getLogger(__name__)

# Longer than a gateway takes to recreate its mailbox after Redis lost its data.
GATEWAY_GRACE_S = 5.0
MAILBOX_MESSAGES = 50_000
MOST_BUFFERED_DELTAS = 200_000
UNREAD_RETRY_S = 0.2
RETRY_S = (0.05, 1.0)


class Outbox:
    def __init__(self, link: RedisLink, on_gateway_gone: Callable[[str], None]):
        self._link = link
        self._on_gateway_gone = on_gateway_gone
        self._pending: dict[str, list[Delta]] = {}
        self._finished: list[wire.WorkerUsage] = []
        self._unread_since: dict[str, float] = {}
        self._resting: set[str] = set()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._buffered = 0
        self._writing: set[str] = set()  # gateways for whom a write is under way
        self.bypass: BypassServer | None = None

    def put(self, gateway: str, delta: Delta, usage: wire.WorkerUsage | None = None) -> None:
        """Queue a delta; ``usage`` comes with a sequence's last one."""
        self._pending.setdefault(gateway, []).append(delta)
        if usage is not None:
            self._finished.append(usage)
        self._buffered += 1
        if self._buffered >= MOST_BUFFERED_DELTAS:
            self._thin_out()
        self._idle.clear()
        self._wake.set()
        if self.bypass is not None and self.bypass.lines:
            self.pass_by()

    def pass_by(self) -> None:
        """Send what waits for gateways that have a line of their own; they cannot hear Redis.

        Not while a write is under way: what is in it comes before all that waits.
        """
        if self.bypass is None:
            return
        for gateway in self.bypass.lines.keys() - self._writing:
            deltas = self._pending.pop(gateway, [])
            if deltas and not self.bypass.send(gateway, deltas):
                self._pending[gateway] = deltas
            elif deltas:
                self._buffered -= len(deltas)

    async def run(self) -> None:
        """Write for ever; cancel to stop."""
        delay = RETRY_S[0]
        while True:
            await self._wake.wait()
            self._wake.clear()
            self.pass_by()
            pending = self._take()
            finished, self._finished = self._finished, []
            self._writing = set(pending)
            try:
                await self._write(pending, finished)
                delay = RETRY_S[0]
            except (RedisError, OSError, TimeoutError) as error:
                # A write that timed out may have happened: offsets drop what comes twice.
                log.warning("outbox.retry", extra={"error": repr(error)})
                self._put_back(pending, finished)
                self._writing.clear()
                self.pass_by()
                await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311
                delay = min(delay * 2, RETRY_S[1])
            self._writing.clear()
            if not self._pending and not self._finished:
                self._idle.set()

    async def drained(self, timeout_s: float) -> None:
        """Wait until everything is written, at most ``timeout_s``."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            log.warning("outbox.undelivered", extra={"gateways": len(self._pending)})

    async def _write(
        self, pending: dict[str, list[Delta]], finished: list[wire.WorkerUsage]
    ) -> None:
        # NOMKSTREAM: a mailbox that is gone has no reader, and must not come back.
        writes = [
            self._link.call(
                *("XADD", wire.mailbox_of(gateway), "NOMKSTREAM", "MAXLEN", "~"),
                *(MAILBOX_MESSAGES, "*", "d", wire.encode(deltas)),
            )
            for gateway, deltas in pending.items()
        ]
        if finished:
            oldest_ms = int((time.time() - wire.WORKER_USAGE_KEPT_S) * 1000)
            writes.append(
                self._link.call(
                    *("XADD", wire.WORKER_USAGE, "MINID", "~", oldest_ms, "*"),
                    *("u", wire.encode(finished)),
                )
            )
        answers = [await writes[0]] if len(writes) == 1 else await asyncio.gather(*writes)
        for (gateway, deltas), answer in zip(pending.items(), answers, strict=False):
            if answer is None:
                self._unread(gateway, deltas)
            else:
                self._unread_since.pop(gateway, None)

    def _unread(self, gateway: str, deltas: list[Delta]) -> None:
        now = time.monotonic()
        since = self._unread_since.setdefault(gateway, now)
        if now - since < GATEWAY_GRACE_S:
            self._resting.add(gateway)
            self._put_back({gateway: deltas}, [])
            asyncio.get_running_loop().call_later(UNREAD_RETRY_S, self._end_rest, gateway)
            return
        log.warning("outbox.gateway_gone", extra={"gateway": gateway})
        del self._unread_since[gateway]
        self._on_gateway_gone(gateway)

    def _end_rest(self, gateway: str) -> None:
        self._resting.discard(gateway)
        self._wake.set()

    def _take(self) -> dict[str, list[Delta]]:
        """All that waits, but for gateways without a mailbox: theirs rests for a while."""
        taken = {
            gateway: self._pending.pop(gateway)
            for gateway in list(self._pending)
            if gateway not in self._resting
        }
        self._buffered -= sum(map(len, taken.values()))
        return taken

    def _thin_out(self) -> None:
        """Redis has been away for minutes: keep the last delta of each sequence only.

        Its reader finds the gap before it and goes elsewhere; without that last one it
        would wait for ever.
        """
        log.error("outbox.full", extra={"gateways": len(self._pending)})
        for gateway, deltas in self._pending.items():
            last = {(delta.request_id, delta.attempt): delta for delta in deltas}
            self._pending[gateway] = list(last.values())
        self._buffered = sum(map(len, self._pending.values()))

    def _put_back(self, pending: dict[str, list[Delta]], finished: list[wire.WorkerUsage]) -> None:
        for gateway, deltas in pending.items():
            self._pending[gateway] = deltas + self._pending.get(gateway, [])
            self._buffered += len(deltas)
        if self._buffered >= MOST_BUFFERED_DELTAS:
            self._thin_out()
        self._finished = finished + self._finished
        self._idle.clear()
        self._wake.set()
