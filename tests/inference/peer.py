"""A replica as the gateway sees one, over the real broker and the real streams.

It is a peer of the protocol, told by a test what to say and when, so that failures
happen in a chosen order: it takes Celery messages from queue ``replica.<name>`` with
kombu, heartbeats, writes deltas to mailboxes and reads aborts.
"""

from __future__ import annotations

import asyncio
import queue
import secrets
import threading
import time
from types import TracebackType

import msgspec
import redis
import redis.asyncio
from django.conf import settings
from kombu import Connection
from kombu.simple import SimpleQueue

from config.celery import app
from inference import wire
from inference.wire import Delta, Heartbeat, Submission

DEPLOYMENT = 1


class Peer:
    """``async with Peer(client, "chat-1") as peer``; heartbeats twice as often as a worker."""

    def __init__(self, client: redis.asyncio.Redis, name: str, deployment: int = DEPLOYMENT):
        self.name = name
        self.deployment = deployment
        self.incarnation = secrets.token_hex(8)
        self.state = "ready"
        self.running = 0
        self.changes: dict[str, object] = {}  # of further fields of its heartbeats
        self.messages: list[list[Submission]] = []
        self._redis = client

    async def __aenter__(self) -> Peer:
        self._connection = Connection(
            app.conf.broker_url, transport_options={"polling_interval": 0.1}
        )
        self._queue: SimpleQueue = self._connection.SimpleQueue(
            wire.queue_of(self.name), no_ack=True
        )
        self._queue.consumer.accept = {"application/x-msgpack"}
        self._heart = redis.Redis.from_url(settings.REDIS_URL)
        self.come_alive()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.fall_silent()
        self._heart.close()
        self._queue.close()
        self._connection.release()

    # --- Heartbeats -----------------------------------------------------------------

    def heartbeat(self) -> Heartbeat:
        beat = Heartbeat(
            replica=self.name,
            incarnation=self.incarnation,
            deployment=self.deployment,
            version=1,
            state=self.state,
            engine="peer",
            node="here",
            started_at=time.time(),
            running=self.running,
        )
        return msgspec.structs.replace(beat, **self.changes)

    def beat(self) -> None:
        content = wire.encode(self.heartbeat())
        self._heart.xadd(wire.HEARTBEATS, {b"h": content}, maxlen=5_000)

    def come_alive(self) -> None:
        """Heartbeats come from a thread: a replica lives though a gateway's loop stands still."""
        self._is_silent = threading.Event()

        def beat_for_ever(is_silent: threading.Event) -> None:
            while not is_silent.is_set():
                self.beat()
                is_silent.wait(0.25)

        self._beating = threading.Thread(target=beat_for_ever, args=[self._is_silent])
        self._beating.start()

    async def fall_silent(self) -> None:
        """As if killed with -9: nothing more is said."""
        self._is_silent.set()
        await asyncio.to_thread(self._beating.join)

    async def restart(self) -> None:
        """A new life under the old name."""
        self.incarnation = secrets.token_hex(8)
        self.state = "ready"
        await self.fall_silent()
        self.come_alive()

    async def say_gone(self) -> None:
        self.state = "gone"
        await self.fall_silent()
        self.beat()

    # --- Work -------------------------------------------------------------------------

    async def take(self, timeout_s: float = 10) -> Submission:
        """The next submission, from as many messages as it takes."""
        (submission,) = await self.take_batch(timeout_s)
        return submission

    async def take_batch(self, timeout_s: float = 10) -> list[Submission]:
        """The submissions of the next Celery message."""
        message = await asyncio.to_thread(self._queue.get, True, timeout_s)
        assert message.headers["task"] == wire.GENERATE_TASK
        (payload,), kwargs, _ = message.payload
        assert kwargs == {}
        batch = wire.decode_submissions(payload)
        self.messages.append(batch)
        return batch

    async def is_idle(self, for_s: float = 0.3) -> bool:
        """Whether no message comes within ``for_s``."""
        try:
            await self.take_batch(for_s)
        except queue.Empty:
            return True
        return False

    # --- Answers ------------------------------------------------------------------------

    async def send(self, gateway: str, *deltas: Delta) -> None:
        await self._redis.xadd(
            wire.mailbox_of(gateway), {b"d": wire.encode(list(deltas))}, nomkstream=True
        )

    async def aborted(self, timeout_s: float = 10) -> list[str]:
        """Engine ids of the first abort that comes (or came)."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            for _, fields in await self._redis.xrange(wire.control_of(self.name)):
                return wire.decode_abort(fields[b"a"]).engine_ids
            await asyncio.sleep(0.01)
        raise AssertionError("no abort came")


def tokens(submission: Submission, offset: int, ids: list[int], finish: str = "") -> Delta:
    """Tokens of a submission; each one's text is its number and a space."""
    text = "".join(f"{token} " for token in ids)
    return Delta(submission.request_id, submission.attempt, offset, ids, text, finish_reason=finish)


def error(submission: Submission, reason: str, offset: int | None = None) -> Delta:
    """A worker's refusal, at the offset where the submission (or its output) stands."""
    return Delta(
        submission.request_id,
        submission.attempt,
        submission.offset if offset is None else offset,
        [],
        "",
        finish_reason="error",
        error=reason,
    )
