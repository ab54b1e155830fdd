"""A stream to the client that waits for it: chunks as they come, and comments while none do."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Protocol

from api import sse
from api.dialect import Dialect
from api.errors import INTERNAL, ApiError, api_error
from api.http import EVENT_STREAM, Request, Send, send_head
from api.plan import Plan
from api.run import Run
from inference.errors import InferenceError
from tenants.errors import TenantError

log = logging.getLogger(__name__)


class Call(Protocol):
    """A validated request of one endpoint."""

    plan: Plan
    is_stream: bool

    async def whole(self, run: Run) -> bytes: ...


class StreamingCall(Call, Protocol):
    def chunks(self, run: Run) -> AsyncIterator[list[bytes]]: ...


async def stream(
    request: Request, call: StreamingCall, run: Run, send: Send, dialect: Dialect
) -> int:
    """Send chunks as they come. Returns 200; raises what happens before the stream has begun."""
    out = _Stream(request, run, send, dialect)
    try:
        async for chunks in call.chunks(run):
            await out.write(b"".join(map(dialect.frame, chunks)))
        await out.end(dialect.end)
    except (TenantError, InferenceError) as error:
        if not out.has_begun:
            raise
        await run.settle()
        await out.end_in(api_error(error))
    except Exception:
        if not out.has_begun:
            raise
        log.exception("stream.failed", extra={"request_id": request.request_id})
        await run.settle()
        await out.end_in(INTERNAL)
    finally:
        out.close()
    return 200


class _Stream:
    """Its head waits for the first chunk, so that a request that fails before it has any output
    gets a proper status, but not longer than the first silence of ``sse.KEEP_ALIVE_S``."""

    def __init__(self, request: Request, run: Run, send: Send, dialect: Dialect):
        self._request, self._run, self._send, self._dialect = request, run, send, dialect
        self.has_begun = False
        self._has_written = False
        self._loop = asyncio.get_running_loop()
        # One timer that looks back, so that a chunk sets none anew.
        self._timer = self._loop.call_later(sse.KEEP_ALIVE_S, self._look)
        self._speaking: asyncio.Task[None] | None = None

    async def write(self, part: bytes) -> None:
        if not self.has_begun:
            await self._begin()
        self._has_written = True
        await self._send({"type": "http.response.body", "body": part, "more_body": True})

    async def end(self, last: bytes) -> None:
        self._timer.cancel()
        if self._speaking is not None and not self._speaking.done():
            await asyncio.wait([self._speaking])  # it may have the head to send
        await self._send({"type": "http.response.body", "body": last, "more_body": False})

    async def end_in(self, error: ApiError) -> None:
        """The status is sent already: the last event says what happened."""
        frame = self._dialect.error_frame(error, self._request.request_id)
        await self.end(frame + self._dialect.end)

    def close(self) -> None:
        self._timer.cancel()
        if self._speaking is not None:
            self._speaking.cancel()

    async def _begin(self) -> None:
        self.has_begun = True
        headers = self._dialect.headers(self._run.headers, self._request.request_id)
        await send_head(self._request, 200, [*EVENT_STREAM, *headers], self._send)

    def _look(self) -> None:
        was_silent = not self._take_written()
        # One that waits for a slow client is not joined by a second.
        if was_silent and (self._speaking is None or self._speaking.done()):
            self._speaking = self._loop.create_task(self._say_something())
        self._timer = self._loop.call_later(sse.KEEP_ALIVE_S, self._look)

    async def _say_something(self) -> None:
        if not self.has_begun:
            await self._begin()
        await self._send({"type": "http.response.body", "body": sse.KEEP_ALIVE, "more_body": True})
        self._take_written()  # what we said ourselves ends no silence

    def _take_written(self) -> bool:
        """Whether anything was written since this was last asked, here or past us by the wire."""
        wire = self._run.wire
        has_passed = wire is not None and wire.has_written()
        has_written, self._has_written = self._has_written or has_passed, False
        return has_written
