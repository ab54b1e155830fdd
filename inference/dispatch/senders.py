"""How a batch becomes a Celery message: two siblings behind one call.

Celery speaks every broker through kombu, synchronously, so ``KombuSender`` does
it on a thread. On a Redis broker that costs some 250 µs a message, two thread
switches and a wait for the interpreter's lock; ``RedisSender`` writes the same
message over the gateway's own connection instead. A test holds the two to the
same envelope, read back by kombu.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import queue
import re
import secrets
import threading
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, Protocol

import msgspec
from celery import current_app
from django.conf import settings
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from inference import wire
from inference.wire import Submission
from tenants.redis_link import RedisLink

log = logging.getLogger(__name__)

Done = Callable[[bool], None]  # called on the event loop with whether the broker took it


class Sender(Protocol):
    def send(self, replica: str, batch: list[Submission], done: Done) -> None:
        """Begin to send; ``done`` is called once, whatever happens."""

    async def close(self) -> None: ...


def make_sender(link: RedisLink) -> Sender:
    """The sender for the configured broker; ``link`` leads to ``REDIS_URL``."""
    if settings.CELERY_BROKER == settings.REDIS_URL:
        return RedisSender(link)
    return KombuSender()


class RedisSender:
    """Writes kombu's virtual-transport envelope with Celery's task protocol 2.

    docs.celeryq.dev, "Message Protocol", version 2; the Redis transport keeps a
    queue as a list of JSON envelopes whose body is base64.
    """

    def __init__(self, link: RedisLink):
        self._link = link
        self._sending: set[asyncio.Future[Any]] = set()

    def send(self, replica: str, batch: list[Submission], done: Done) -> None:
        queue_name = wire.queue_of(replica)
        try:
            sending = self._link.start("LPUSH", queue_name, envelope(queue_name, batch))
        except RedisError as error:
            # Not at once: who sends is not done with what it does.
            asyncio.get_running_loop().call_soon(self._sent, replica, done, error)
            return
        # No task for it: it would cost as much as the rest of sending.
        self._sending.add(sending)
        sending.add_done_callback(partial(self._answered, replica, done))

    async def close(self) -> None:
        await asyncio.gather(*self._sending, return_exceptions=True)

    def _answered(self, replica: str, done: Done, sending: asyncio.Future[Any]) -> None:
        self._sending.discard(sending)
        if sending.cancelled():
            self._sent(replica, done, RedisError("cancelled"))
        else:
            self._sent(replica, done, sending.exception())

    def _sent(self, replica: str, done: Done, error: BaseException | None) -> None:
        if error is not None and not isinstance(error, RedisError | OSError | TimeoutError):
            raise error
        if error is not None:
            log.warning("publish.failed", extra={"replica": replica, "error": repr(error)})
        done(error is None)


_EMBEDDED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
# All of an envelope but its body, its ids and its queue; JSON is written once.
_ENVELOPE = msgspec.json.encode(
    {
        "body": "\x00",
        "content-encoding": "binary",
        "content-type": "application/x-msgpack",
        "headers": {
            "lang": "py",
            "task": wire.GENERATE_TASK,
            "id": "\x01",
            "root_id": "\x01",
            "parent_id": None,
            "group": None,
            "retries": 0,
            "eta": None,
            "expires": None,
            "timelimit": (None, None),
            "argsrepr": "-",
            "kwargsrepr": "{}",
            "ignore_result": True,
        },
        "properties": {
            "correlation_id": "\x01",
            "reply_to": "",
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": "\x02"},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": "\x01",
        },
    }
)


@lru_cache(maxsize=4_096)
def _parts_of(queue_name: str) -> tuple[bytes, ...]:
    """The envelope around body, id, id, id and id."""
    name = msgspec.json.encode(queue_name)[1:-1]
    text = _ENVELOPE.replace(b"\\u0002", name)
    return tuple(re.split(rb"\\u000[01]", text))


def envelope(queue_name: str, batch: list[Submission]) -> bytes:
    """The message as kombu's Redis transport would have written it."""
    task_id = secrets.token_hex(16).encode()
    body = wire.encode(((wire.encode(batch),), {}, _EMBEDDED))
    before, *between = _parts_of(queue_name)
    return before + base64.b64encode(body) + task_id.join(between)


class KombuSender:
    """Any broker that Celery speaks, from a thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._outgoing: queue.SimpleQueue[tuple[str, list[Submission], Done] | None] = (
            queue.SimpleQueue()
        )
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self._thread.start()

    def send(self, replica: str, batch: list[Submission], done: Done) -> None:
        self._outgoing.put((replica, batch, done))

    async def close(self) -> None:
        self._outgoing.put(None)
        await asyncio.to_thread(self._thread.join, 5)

    def _run(self) -> None:
        while (item := self._outgoing.get()) is not None:
            replica, batch, done = item
            is_sent = False
            try:
                self._publish(replica, batch)
                is_sent = True
            except (OperationalError, OSError) as error:
                log.warning("publish.failed", extra={"replica": replica, "error": repr(error)})
            except Exception:
                # The edge of this thread: whatever it was, the callers must hear of it.
                log.exception("publish.broken", extra={"replica": replica})
            try:
                self._loop.call_soon_threadsafe(done, is_sent)
            except RuntimeError:  # the loop is closed: the process is ending
                return

    def _publish(self, replica: str, batch: list[Submission]) -> None:
        current_app.send_task(
            wire.GENERATE_TASK,
            args=(wire.encode(batch),),
            queue=wire.queue_of(replica),
            serializer="msgpack",
            ignore_result=True,
            # Celery would write the arguments' text into a header otherwise.
            argsrepr="-",
            kwargsrepr="{}",
            retry=True,
            retry_policy={"max_retries": 1, "interval_start": 0.05, "interval_max": 0.1},
        )
