"""An answer that is made for a log: it goes on when its client does not.

The producer is a task of its own. The request that asked for it reads what it makes as any
other reader does, only without the way through Redis.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from django.conf import settings

from api import sse
from api.dialect import OPENAI, Dialect
from api.errors import INTERNAL, ApiError, api_error
from api.gateway import Gateway
from api.http import Headers, Response
from api.kept.claims import ClaimedBill, is_final
from api.run import Run
from inference import metrics, stream_log
from inference.errors import InferenceError
from inference.stream_log import Event, StreamLogs, Writer
from tenants.errors import TenantError

log = logging.getLogger(__name__)

Numbered = list[tuple[int, Event]]
Begin = Callable[[], Coroutine[Any, Any, Any]]

ABANDONED = ApiError(
    400,
    "This stream was cancelled, or nobody read it for too long.",
    "invalid_request_error",
    None,
    "stream_abandoned",
)
STOPPED = ApiError(
    503, "The server stopped before the answer was whole.", "server_error", None, "server_stopped"
)


class Producer:
    """``begin`` validates and gives the call. ``bill`` is there for claimed requests, which end
    with their answer; others end ``RESUME_GRACE_S`` after the last reader left."""

    def __init__(
        self,
        gateway: Gateway,
        writer: Writer,
        begin: Begin,
        bill: ClaimedBill | None = None,
        dialect: Dialect = OPENAI,
    ):
        self._gateway = gateway
        self._logs: StreamLogs = gateway.logs
        self._writer = writer
        self._begin = begin
        self._bill = bill
        self.dialect = dialect
        self.log_id = writer.log_id
        self.meta = writer.meta
        self.events: list[Event] = []
        self.headers: Headers = []
        self.failure: Response | None = None  # what ended it, before or in its stream
        self.status = 200
        self.is_stream = True
        self.is_done = False
        self._readers = 0
        self._is_abandoned = False
        self._grace: asyncio.TimerHandle | None = None
        self._checking: asyncio.Task[None] | None = None
        self._news: asyncio.Future[None] | None = None
        self._loop = asyncio.get_running_loop()
        gateway.producers[self.log_id] = self
        self.task = self._loop.create_task(self._produce(), name=f"producer.{self.log_id}")

    # --- Making ---------------------------------------------------------------------------

    async def _produce(self) -> None:
        self._gateway.requests += 1
        try:
            state = await self._run()
        except asyncio.CancelledError:
            state = self._fail(ABANDONED if self._is_abandoned else STOPPED)
        finally:
            self._gateway.requests -= 1
        # First the log, then whoever waits here: the same key, asked again at once, finds it.
        await self._writer.end(state, self.status, is_stream=self.is_stream)
        self.is_done = True
        self._tell()
        if self._gateway.producers.get(self.log_id) is self:
            del self._gateway.producers[self.log_id]

    async def _run(self) -> str:
        """Make the answer; the state in which its log ends."""
        try:
            call = await self._begin()
            self.is_stream = call.is_stream
            async with Run(self._gateway, call.plan, self._bill) as run:
                if call.is_stream:
                    async for chunks in call.chunks(run):
                        self.headers = self.headers or run.headers
                        self._add([Event(chunk) for chunk in chunks])
                else:
                    content = await call.whole(run)
                    await run.settle()
                    self.headers = run.headers
                    self._add([Event(content)])
        except (TenantError, InferenceError) as error:
            return self._fail(api_error(error))
        except Exception:
            log.exception("request.failed", extra={"request_id": self.log_id})
            return self._fail(INTERNAL)
        return stream_log.DONE

    def _add(self, events: list[Event]) -> None:
        for event in events:
            self._writer.append(event)
        self.events += events
        self._tell()

    def _fail(self, failure: ApiError) -> str:
        self.failure = self.dialect.error(failure, self.log_id)
        if not self.events:
            self.status, self.is_stream = self.failure.status, False
            metrics.REFUSED.labels(failure.code or failure.kind).inc()
        self._add([Event(self.failure.body)])
        return stream_log.DONE if is_final(failure.status) else stream_log.FAILED

    def _tell(self) -> None:
        if self._news is not None:
            news, self._news = self._news, None
            news.set_result(None)

    # --- Reading --------------------------------------------------------------------------

    async def read(self, after: int = 0) -> AsyncIterator[Numbered]:
        """Events after number ``after`` as they come; an empty list every ``sse.KEEP_ALIVE_S``."""
        while True:
            if found := self.events[after:]:
                numbered = list(enumerate(found, after + 1))
                after += len(found)
                yield numbered
            elif self.is_done:
                return
            elif not await self._has_news(sse.KEEP_ALIVE_S):
                yield []

    async def begun(self) -> None:
        """Until there is something to answer with."""
        while not self.events and not self.is_done:
            await self._has_news(sse.KEEP_ALIVE_S)

    async def ended(self) -> None:
        while not self.is_done:
            await self._has_news(sse.KEEP_ALIVE_S)

    async def _has_news(self, timeout_s: float) -> bool:
        if self._news is None:
            self._news = self._loop.create_future()
        # Not wait_for: it would cancel what the other readers wait for, too.
        done, _ = await asyncio.wait([self._news], timeout=timeout_s)
        return bool(done)

    def cancel(self) -> None:
        """Its client does not want it any more."""
        self._is_abandoned = True
        self.task.cancel()

    def join(self) -> None:
        """Somebody reads; ``leave`` when not any more."""
        self._readers += 1
        if self._grace is not None:
            self._grace.cancel()
            self._grace = None

    def leave(self) -> None:
        self._readers -= 1
        if not self._readers and self._bill is None and not self.is_done:
            self._grace = self._loop.call_later(settings.RESUME_GRACE_S, self._look_for_readers)

    def _look_for_readers(self) -> None:
        self._grace = None
        self._checking = self._loop.create_task(self._end_if_abandoned())

    async def _end_if_abandoned(self) -> None:
        if await self._logs.has_reader(self.log_id):
            if not self._readers and not self.is_done:
                after_s = stream_log.READER_MS / 1000
                self._grace = self._loop.call_later(after_s, self._look_for_readers)
        elif not self._readers and not self.is_done:
            self.cancel()
