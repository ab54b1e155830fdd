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

import redis.asyncio
from redis.exceptions import RedisError

from inference import wire
from inference.wire import Delta

log = logging.getLogger(__name__)

# Longer than a gateway takes to recreate its mailbox after Redis lost its data.
GATEWAY_GRACE_S = 5.0
MAILBOX_MESSAGES = 50_000
MOST_BUFFERED_DELTAS = 200_000
RETRY_S = (0.05, 1.0)


class Outbox:
    def __init__(self, client: redis.asyncio.Redis, on_gateway_gone: Callable[[str], None]):
        self._redis = client
        self._on_gateway_gone = on_gateway_gone
        self._pending: dict[str, list[Delta]] = {}
        self._finished: list[wire.WorkerUsage] = []
        self._unread_since: dict[str, float] = {}
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._buffered = 0

    def put(self, gateway: str, delta: Delta, usage: wire.WorkerUsage | None = None) -> None:
        """Queue a delta; ``usage`` comes with a sequence's last one."""
        self._pending.setdefault(gateway, []).append(delta)
        if usage is not None:
            self._finished.append(usage)
        self._buffered += 1
        if self._buffered == MOST_BUFFERED_DELTAS:
            log.error("outbox.full", extra={"gateways": len(self._pending)})
            # Redis has been away for minutes. Readers find the gap and go elsewhere.
            self._pending.clear()
            self._buffered = 0
        self._idle.clear()
        self._wake.set()

    async def run(self) -> None:
        """Write for ever; cancel to stop."""
        delay = RETRY_S[0]
        while True:
            await self._wake.wait()
            self._wake.clear()
            pending, self._pending = self._pending, {}
            finished, self._finished = self._finished, []
            self._buffered = 0
            try:
                await self._write(pending, finished)
                delay = RETRY_S[0]
            except (RedisError, OSError, TimeoutError) as error:
                # A write that timed out may have happened: offsets drop what comes twice.
                log.warning("outbox.retry", extra={"error": repr(error)})
                self._put_back(pending, finished)
                await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311
                delay = min(delay * 2, RETRY_S[1])
            if not self._pending and not self._finished:
                self._idle.set()

    async def drained(self, timeout_s: float) -> None:
        """Wait until everything is written, at most ``timeout_s``."""
        try:
            await asyncio.wait_for(self._idle.wait(), timeout_s)
        except TimeoutError:
            log.warning("outbox.undelivered", extra={"gateways": len(self._pending)})

    async def _write(
        self, pending: dict[str, list[Delta]], finished: list[wire.WorkerUsage]
    ) -> None:
        if len(pending) == 1 and not finished:
            ((gateway, deltas),) = pending.items()
            answers = [
                await self._redis.xadd(
                    wire.mailbox_of(gateway),
                    {b"d": wire.encode(deltas)},
                    maxlen=MAILBOX_MESSAGES,
                    approximate=True,
                    nomkstream=True,
                )
            ]
        else:
            pipe = self._redis.pipeline(transaction=False)
            for gateway, deltas in pending.items():
                pipe.xadd(
                    wire.mailbox_of(gateway),
                    {b"d": wire.encode(deltas)},
                    maxlen=MAILBOX_MESSAGES,
                    approximate=True,
                    nomkstream=True,
                )
            if finished:
                oldest_ms = int((time.time() - wire.WORKER_USAGE_KEPT_S) * 1000)
                pipe.xadd(
                    wire.WORKER_USAGE,
                    {b"u": wire.encode(finished)},
                    minid=str(oldest_ms),
                    approximate=True,
                )
            answers = await pipe.execute()
        for (gateway, deltas), answer in zip(pending.items(), answers, strict=False):
            if answer is None:
                self._unread(gateway, deltas)
            else:
                self._unread_since.pop(gateway, None)

    def _unread(self, gateway: str, deltas: list[Delta]) -> None:
        now = time.monotonic()
        since = self._unread_since.setdefault(gateway, now)
        if now - since < GATEWAY_GRACE_S:
            self._put_back({gateway: deltas}, [])
            asyncio.get_running_loop().call_later(0.2, self._wake.set)
            self._wake.clear()
            return
        log.warning("outbox.gateway_gone", extra={"gateway": gateway})
        del self._unread_since[gateway]
        self._on_gateway_gone(gateway)

    def _put_back(self, pending: dict[str, list[Delta]], finished: list[wire.WorkerUsage]) -> None:
        for gateway, deltas in pending.items():
            self._pending[gateway] = deltas + self._pending.get(gateway, [])
            self._buffered += len(deltas)
        self._finished = finished + self._finished
        self._idle.clear()
        self._wake.set()
