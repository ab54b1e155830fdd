"""Sequences to Celery messages: one message for each replica and moment.

Publishing blocks (kombu speaks every broker, synchronously), so a thread does
it. While a replica's message is on its way, further sequences for it gather and
leave together: an idle system waits for nothing, a busy one sends few messages.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from celery import current_app
from kombu.exceptions import OperationalError

from inference import metrics, wire
from inference.wire import Submission

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BatchBounds:
    """Most sequences and prompt tokens of one message."""

    requests: int
    tokens: int


# design.md section 4 step 9; the token bound keeps one message under a megabyte.
PROFILES = {
    "latency": BatchBounds(8, 32_768),
    "throughput": BatchBounds(32, 131_072),
    "cost": BatchBounds(64, 131_072),
}


@dataclass
class _Batcher:
    waiting: deque[Submission] = field(default_factory=deque)
    is_publishing: bool = False

    def take(self, bounds: BatchBounds) -> list[Submission]:
        batch: list[Submission] = []
        tokens = 0
        while self.waiting and len(batch) < bounds.requests:
            tokens += len(self.waiting[0].prompt_ids)
            if batch and tokens > bounds.tokens:
                break
            batch.append(self.waiting.popleft())
        return batch


class Publisher:
    """``on_failed(replica, submissions)`` hears of batches that the broker did not take."""

    def __init__(self, on_failed: Callable[[str, list[Submission]], None]):
        self._on_failed = on_failed
        self._batchers: dict[str, _Batcher] = {}
        self._outgoing: queue.SimpleQueue[tuple[str, list[Submission], BatchBounds] | None] = (
            queue.SimpleQueue()
        )
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._publish_all, name="publisher", daemon=True)
        self._thread.start()

    def submit(self, replica: str, submission: Submission, profile: str) -> None:
        batcher = self._batchers.get(replica)
        if batcher is None:
            batcher = self._batchers[replica] = _Batcher()
        batcher.waiting.append(submission)
        if not batcher.is_publishing:
            self._send(replica, batcher, PROFILES[profile])

    def withdraw(self, replica: str, request_id: str) -> bool:
        """Take back a sequence that has not left yet."""
        batcher = self._batchers.get(replica)
        for submission in batcher.waiting if batcher else ():
            if submission.request_id == request_id:
                batcher.waiting.remove(submission)  # type: ignore[union-attr]
                return True
        return False

    def close(self) -> None:
        self._outgoing.put(None)
        self._thread.join(5)

    def _send(self, replica: str, batcher: _Batcher, bounds: BatchBounds) -> None:
        batch = batcher.take(bounds)
        batcher.is_publishing = bool(batch)
        if batch:
            metrics.BATCHES.inc()
            metrics.BATCHED.inc(len(batch))
            self._outgoing.put((replica, batch, bounds))

    def _sent(
        self,
        replica: str,
        batch: list[Submission],
        bounds: BatchBounds,
        has_failed: bool,
    ) -> None:
        if has_failed:
            self._on_failed(replica, batch)
        self._send(replica, self._batchers[replica], bounds)

    # --- On the thread ------------------------------------------------------------

    def _publish_all(self) -> None:
        while (item := self._outgoing.get()) is not None:
            replica, batch, bounds = item
            has_failed = False
            try:
                self._publish(replica, batch)
            except (OperationalError, OSError) as error:
                log.warning("publish.failed", extra={"replica": replica, "error": repr(error)})
                has_failed = True
            except Exception:
                # The edge of this thread: whatever it was, the callers must hear of it.
                log.exception("publish.broken", extra={"replica": replica})
                has_failed = True
            try:
                self._loop.call_soon_threadsafe(self._sent, replica, batch, bounds, has_failed)
            except RuntimeError:  # the loop is closed: the process is ending
                return

    def _publish(self, replica: str, batch: list[Submission]) -> None:
        current_app.send_task(
            wire.GENERATE_TASK,
            args=(wire.encode(batch),),
            queue=wire.queue_of(replica),
            serializer="msgpack",
            ignore_result=True,
            retry=True,
            retry_policy={
                "max_retries": 1,
                "interval_start": 0.05,
                "interval_max": 0.1,
            },
        )
