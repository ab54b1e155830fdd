"""Sequences to messages: one message for each replica and moment.

While a replica's message is on its way, further sequences for it gather and
leave together; a replica with no place free lets them wait a little for company.
An idle system waits for nothing, a busy one sends few messages.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import msgspec

from inference import metrics
from inference.dispatch.batching import PROFILES, BatchQueue, Speed, Waiting, wait_s
from inference.dispatch.senders import Sender
from inference.wire import Submission

BATCHES_REMEMBERED = 32
# Weight of the newest gap in the mean of gaps between arrivals.
_NEWEST = 0.2
# A gap that counts as nobody being expected: longer than any profile waits, and short enough
# for the mean to come down within a few arrivals of a burst.
_NEVER_S = 1.0


class BatchRecord(msgspec.Struct, frozen=True):
    """One message that left, for people to look at."""

    at: float  # Unix seconds
    replica: str
    profile: str
    requests: int
    prompt_tokens: int
    waited_s: float  # of whoever waited longest
    closed_by: str


@dataclass(slots=True)
class _Batcher:
    """One replica's queue; ``timer`` runs while what waits is waiting for company."""

    profile: str
    queue: BatchQueue = field(default_factory=BatchQueue)
    is_publishing: bool = False
    timer: asyncio.TimerHandle | None = None
    gap_s: float = _NEVER_S
    last_arrival_at: float = -_NEVER_S

    def note_arrival(self, now: float) -> None:
        self.gap_s += _NEWEST * (min(_NEVER_S, now - self.last_arrival_at) - self.gap_s)
        self.last_arrival_at = now


class Publisher:
    """``on_failed(replica, submissions)`` hears of batches that the broker did not take;
    ``speed_of(replica)`` says what is known of a replica now."""

    def __init__(
        self,
        sender: Sender,
        on_failed: Callable[[str, list[Submission]], None],
        speed_of: Callable[[str], Speed] = lambda _replica: Speed(),
    ):
        self._sender = sender
        self._on_failed = on_failed
        self._speed_of = speed_of
        self._batchers: dict[str, _Batcher] = {}
        self.recent: deque[BatchRecord] = deque(maxlen=BATCHES_REMEMBERED)

    def submit(self, replica: str, submission: Submission, profile: str) -> None:
        now = time.monotonic()
        batcher = self._batchers.get(replica)
        if batcher is None:
            batcher = self._batchers[replica] = _Batcher(profile)
        batcher.profile = profile
        batcher.note_arrival(now)
        batcher.queue.add(submission, now)
        if not batcher.is_publishing:
            self._send_or_wait(replica, batcher, now)

    def withdraw(self, replica: str, request_id: str) -> bool:
        """Take back a sequence that has not left yet."""
        batcher = self._batchers.get(replica)
        return batcher is not None and batcher.queue.withdraw(request_id)

    def forget(self, replica: str) -> None:
        """A replica is gone for good; whoever waits for it was withdrawn or goes on elsewhere."""
        batcher = self._batchers.get(replica)
        if batcher is not None and not batcher.is_publishing and not len(batcher.queue):
            self._stop_waiting(batcher)
            del self._batchers[replica]

    def waiting(self) -> dict[str, int]:
        """How many sequences wait for each replica, for people to look at."""
        return {name: len(each.queue) for name, each in self._batchers.items() if len(each.queue)}

    async def close(self) -> None:
        for batcher in self._batchers.values():
            self._stop_waiting(batcher)
        await self._sender.close()

    def _send_or_wait(self, replica: str, batcher: _Batcher, now: float) -> None:
        if not len(batcher.queue):
            return
        speed, profile = self._speed_of(replica), PROFILES[batcher.profile]
        more_s = wait_s(batcher.queue, profile, speed, batcher.gap_s, now)
        if more_s <= 0.0:
            self._send(replica, batcher, speed, now)
        elif batcher.timer is None:
            loop = asyncio.get_running_loop()
            batcher.timer = loop.call_later(more_s, self._waited, replica, batcher)

    def _waited(self, replica: str, batcher: _Batcher) -> None:
        batcher.timer = None
        if not batcher.is_publishing and len(batcher.queue):
            self._send(replica, batcher, self._speed_of(replica), time.monotonic(), "wait")

    def _send(
        self, replica: str, batcher: _Batcher, speed: Speed, now: float, closed_by: str = ""
    ) -> None:
        self._stop_waiting(batcher)
        taken, found = batcher.queue.take(PROFILES[batcher.profile], speed, now)
        batcher.is_publishing = True
        self._note(replica, batcher.profile, taken, closed_by or found, now)
        batch = [waiting.submission for waiting in taken]
        self._sender.send(replica, batch, partial(self._sent, replica, batcher, batch))

    def _stop_waiting(self, batcher: _Batcher) -> None:
        if batcher.timer is not None:
            batcher.timer.cancel()
            batcher.timer = None

    def _note(
        self, replica: str, profile: str, taken: list[Waiting], closed_by: str, now: float
    ) -> None:
        waited_s = now - min(waiting.arrived_at for waiting in taken)
        tokens = sum(waiting.prompt_tokens for waiting in taken)
        metrics.of_batches(profile).observe(len(taken), waited_s)
        self.recent.append(
            BatchRecord(time.time(), replica, profile, len(taken), tokens, waited_s, closed_by)
        )

    def _sent(
        self, replica: str, batcher: _Batcher, batch: list[Submission], is_sent: bool
    ) -> None:
        batcher.is_publishing = False
        if not is_sent:
            self._on_failed(replica, batch)
        # What gathered meanwhile may still be worth a wait; a failure may have emptied it.
        if not batcher.is_publishing:
            self._send_or_wait(replica, batcher, time.monotonic())
