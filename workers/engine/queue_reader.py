"""Takes Celery's messages from a Redis broker on the engine's own loop, several at a time.

kombu reads them one by one on Celery's main thread: 100 µs of CPU a message and a switch of
threads, for envelopes of which nothing but the body is wanted. This reads the same list
(``inference.dispatch.senders`` writes it) and hands over what ``tasks.generate`` would. Any
other broker is consumed by Celery as ever. Without acknowledgements, as there: the dispatcher
that sent a batch supervises it.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
from collections.abc import Callable
from typing import Any

import msgspec
from redis.exceptions import RedisError, ResponseError

from inference import wire
from inference.wire import Submission
from tenants.redis_link import RedisLink
from workers.engine import metrics

log = logging.getLogger(__name__)

# How long a worker that stops waits for its last look at the queue.
BLOCK_S = 1
MOST_AT_ONCE = 16
RETRY_S = 0.2


class _Envelope(msgspec.Struct):
    """What is read of kombu's envelope."""

    body: str


_decode_envelope = msgspec.json.Decoder(_Envelope).decode
_decode_body = msgspec.msgpack.Decoder(tuple[tuple[bytes], dict[str, Any], Any]).decode


def submissions_of(message: bytes) -> list[Submission]:
    """Raises ValueError for what no dispatcher of ours sent."""
    try:
        body = base64.b64decode(_decode_envelope(message).body, validate=True)
        (payload,), _kwargs, _embedded = _decode_body(body)
        return wire.decode_submissions(payload)
    except (msgspec.MsgspecError, binascii.Error) as error:
        raise ValueError(str(error)) from error


class QueueReader:
    """``link`` is its own: nothing else gets an answer while it waits for messages."""

    def __init__(self, link: RedisLink, queue: str, accept: Callable[[list[Submission]], None]):
        self._link = link
        self._queue = queue
        self._accept = accept
        self._takes_several = True  # BLMPOP, since Redis 7
        self._is_stopping = False
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Take no more. Returns when the last look has ended, so that nothing is taken and
        then lost on its way here."""
        self._is_stopping = True
        await self._task
        await self._link.aclose()

    async def _run(self) -> None:
        while not self._is_stopping:
            try:
                messages = await self._next()
            except (RedisError, OSError, TimeoutError) as error:
                log.warning("queue.unreadable", extra={"error": repr(error)})
                await asyncio.sleep(RETRY_S)
                continue
            for message in messages:
                self._take(message)

    async def _next(self) -> list[bytes]:
        if self._takes_several:
            try:
                found = await self._link.call(
                    *("BLMPOP", BLOCK_S, 1, self._queue, "RIGHT", "COUNT", MOST_AT_ONCE)
                )
                return found[1] if found else []
            except ResponseError as error:
                if "unknown command" not in str(error).lower():
                    raise
                self._takes_several = False
        found = await self._link.call("BRPOP", self._queue, BLOCK_S)
        return found[1:] if found else []

    def _take(self, message: bytes) -> None:
        try:
            submissions = submissions_of(message)
        except ValueError:
            # Not from a dispatcher of ours; nobody waits for an answer to it.
            log.exception("generate.undecodable")
            return
        metrics.BATCHES.inc()
        metrics.BATCHED.inc(len(submissions))
        self._accept(submissions)
