"""Sequences to messages: one message for each replica and moment.

While a replica's message is on its way, further sequences for it gather and
leave together: an idle system waits for nothing, a busy one sends few messages.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from inference import metrics
from inference.dispatch.senders import Sender
from inference.wire import Submission


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

    def __init__(self, sender: Sender, on_failed: Callable[[str, list[Submission]], None]):
        self._sender = sender
        self._on_failed = on_failed
        self._batchers: dict[str, _Batcher] = {}

    def submit(self, replica: str, submission: Submission, profile: str) -> None:
        batcher = self._batchers.get(replica)
        if batcher is None:
            batcher = self._batchers[replica] = _Batcher()
        batcher.waiting.append(submission)
        if not batcher.is_publishing:
            self._send(replica, PROFILES[profile])

    def withdraw(self, replica: str, request_id: str) -> bool:
        """Take back a sequence that has not left yet."""
        batcher = self._batchers.get(replica)
        if batcher is None:
            return False
        for submission in batcher.waiting:
            if submission.request_id == request_id:
                batcher.waiting.remove(submission)
                return True
        return False

    async def close(self) -> None:
        await self._sender.close()

    def _send(self, replica: str, bounds: BatchBounds) -> None:
        batcher = self._batchers[replica]
        batch = batcher.take(bounds)
        batcher.is_publishing = bool(batch)
        if batch:
            metrics.BATCHES.inc()
            metrics.BATCHED.inc(len(batch))
            self._sender.send(replica, batch, partial(self._sent, replica, batch, bounds))

    def _sent(
        self, replica: str, batch: list[Submission], bounds: BatchBounds, is_sent: bool
    ) -> None:
        if not is_sent:
            self._on_failed(replica, batch)
        self._send(replica, bounds)
