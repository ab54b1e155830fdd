"""The inference endpoints' requests, without what uvicorn does for applications it does not know.

uvicorn's cycle looks at every byte of every header twice and writes heads and bodies by
themselves; on the token path that was a fifth of a request's CPU. ``DirectCycle`` is the
same ASGI, for exactly the requests whose target is one of ``direct`` as it stands: a POST
over HTTP/1.1 without query, escape, ``Expect`` or upgrade. Everything else stays uvicorn's.

What ASGI has no words for is in ``scope["extensions"][WIRE]`` (``api.http.Wire``): to hear
at once that the client has gone, and to write a part of a stream without a task.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from api.http import WIRE
from config.http_cork import CorkedTransport
from config.http_head import BoundedHeadProtocol


@lru_cache(maxsize=1)
def direct() -> dict[bytes, str]:
    """Targets that are an endpoint of the token path. Asked when a request comes, not imported:
    the endpoints' modules need Django's apps, which the application sets up."""
    from api.asgi import ENDPOINTS

    return {path.encode(): path for path in ENDPOINTS}


class DirectProtocol(BoundedHeadProtocol):
    _running: DirectCycle | None = None  # not the newest, if requests stand in line

    def on_headers_complete(self) -> None:
        path = direct().get(self.url)
        if path is None or not self._is_plain():
            super().on_headers_complete()
            return
        self._head_bytes = None
        before = self.cycle
        self.cycle = DirectCycle(self, path)  # type: ignore[assignment]
        if before is None or before.response_complete:
            self._start_asgi_task(self.cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

    def _is_plain(self) -> bool:
        """Whether nothing is asked for that only uvicorn's cycle does."""
        parser = self.parser
        return (
            parser.get_method() == b"POST"
            and parser.get_http_version() == "1.1"
            and not parser.should_upgrade()
            and not self.expect_100_continue
            and not self.root_path
        )

    def _start_asgi_task(self, cycle: Any, app: ASGI3Application) -> None:
        if isinstance(cycle, DirectCycle):
            self._running = cycle
            cycle.task = self.loop.create_task(cycle.run_asgi(app))
            self.tasks.add(cycle.task)  # it takes itself out: a callback is a turn of the loop
        else:
            super()._start_asgi_task(cycle, app)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        running, self._running = self._running, None
        if running is not None and not running.response_complete:
            running.tell_gone()

    def default_head(self) -> bytes:
        """uvicorn's own headers (date and server), which change once a second."""
        headers = self.server_state.default_headers
        if _default.headers is not headers:
            _default.headers = headers
            _default.content = b"".join(b"%b: %b\r\n" % each for each in headers)
        return _default.content


class _Default:
    headers: list[tuple[bytes, bytes]] | None = None
    content = b""


_default = _Default()


class DirectCycle:
    """One request and its answer; the attributes without an underscore are uvicorn's names.

    The head of an answer waits for the first part of its body, and they leave in one write.
    """

    __slots__ = (
        "_flow", "_gone", "_has_written", "_head", "_is_chunked", "_is_told", "_left", "_protocol",
        "_transport", "_waiter", "body", "disconnected", "keep_alive", "more_body",
        "response_complete", "response_started", "scope", "task",
    )  # fmt: skip

    def __init__(self, protocol: DirectProtocol, path: str):
        transport = protocol.transport
        self._protocol = protocol
        self._transport = transport.below if isinstance(transport, CorkedTransport) else transport
        self._flow: FlowControl = protocol.flow
        self.keep_alive = protocol.parser.should_keep_alive()
        self.body = b""
        self.more_body = True
        self.disconnected = self.response_started = self.response_complete = False
        self.task: asyncio.Task[None] | None = None
        self.scope: dict[str, Any] | None = protocol.scope  # type: ignore[assignment]
        assert self.scope is not None
        self.scope.update(
            method="POST", path=path, raw_path=protocol.url, query_string=b"",
            extensions={WIRE: self},
        )  # fmt: skip
        self._head = b""
        self._is_chunked = False
        self._left = 0  # of a body whose length was said
        self._is_told = False  # whether something came that was not received yet
        self._waiter: asyncio.Future[None] | None = None
        self._gone: Callable[[], object] | None = None
        self._has_written = False

    async def run_asgi(self, app: ASGI3Application) -> None:
        # The scope knows this cycle: as long as each held the other, only the collector
        # could free them.
        scope, self.scope = self.scope, None
        try:
            await app(scope, self.receive, self.send)  # type: ignore[arg-type]
            if not self.response_complete and not self.disconnected:
                self._protocol.logger.error("ASGI callable returned without completing response.")
                await self._fail()
        except BaseException as error:
            self._protocol.logger.error("Exception in ASGI application\n", exc_info=error)
            await self._fail()
        finally:
            self._gone = None
            self._protocol.tasks.discard(self.task)  # type: ignore[arg-type]
            self.task = None

    async def _fail(self) -> None:
        if self.response_started:
            self._transport.close()
            return
        self.keep_alive = False
        body = b"Internal Server Error"
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"21")]
        await self.send({"type": "http.response.start", "status": 500, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})

    # --- What the protocol tells ---------------------------------------------------------

    @property
    def message_event(self) -> DirectCycle:
        """uvicorn's protocol sets it when a part of the body came, or the end."""
        return self

    def set(self) -> None:
        self._is_told = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def tell_gone(self) -> None:
        self.disconnected = True
        self.set()
        if self._gone is not None:
            self._gone()

    # --- ASGI ----------------------------------------------------------------------------

    async def receive(self) -> dict[str, Any]:
        if not self.disconnected and not self.response_complete:
            self._flow.resume_reading()
            if not self._is_told:
                self._waiter = self._protocol.loop.create_future()
                try:
                    await self._waiter
                finally:
                    self._waiter = None
            self._is_told = False
        if self.disconnected or self.response_complete:
            return {"type": "http.disconnect"}
        body, self.body = self.body, b""
        return {"type": "http.request", "body": body, "more_body": self.more_body}

    async def send(self, message: dict[str, Any]) -> None:
        if self._flow.write_paused and not self.disconnected:
            await self._flow.drain()
        if self.disconnected:
            return
        if message["type"] == "http.response.start":
            self._begin(message["status"], message["headers"])
        else:
            self._write(message.get("body", b""), message.get("more_body", False))

    def _begin(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        if self.response_started:
            raise RuntimeError("The answer has begun already.")
        self._is_chunked, close = True, b"" if self.keep_alive else b"connection: close\r\n"
        for name, value in headers:
            if name == b"content-length":
                self._is_chunked, self._left = False, int(value)
        lines = [b"%b: %b\r\n" % each for each in headers]
        if self._is_chunked:
            lines.append(b"transfer-encoding: chunked\r\n")
        head = b"".join(lines)
        if head.count(b"\n") != len(lines) or head.count(b"\r") != len(lines) or b"\0" in head:
            raise RuntimeError("Invalid HTTP header.")
        self.response_started = True
        self._head = b"%b%b%b%b\r\n" % (
            STATUS_LINE[status], self._protocol.default_head(), head, close
        )  # fmt: skip

    def _write(self, body: bytes, more_body: bool) -> None:
        if not self.response_started or self.response_complete:
            raise RuntimeError("A part of an answer that has not begun, or has ended.")
        if self._is_chunked:
            body = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            if not more_body:
                body += b"0\r\n\r\n"
        else:
            self._left -= len(body)
            if self._left < 0 or (self._left and not more_body):
                raise RuntimeError("The answer is not as long as its Content-Length.")
        head, self._head = self._head, b""
        if head or body:
            self._has_written = True
            self._transport.write(head + body)
        if not more_body:
            self.response_complete = True
            self.set()
            if not self.keep_alive:
                self._transport.close()
            self._protocol.on_response_complete()

    # --- Beyond ASGI: api.http.Wire --------------------------------------------------------

    def when_gone(self, tell: Callable[[], object]) -> None:
        self._gone = tell
        if self.disconnected:
            tell()

    def write_now(self, part: bytes) -> bool:
        """Write a part of a stream that has begun; False, and nothing, if it must wait."""
        if self._flow.write_paused or self.disconnected or self.response_complete:
            return False
        if self._head or not self._is_chunked:  # it has not begun, or is no stream
            return False
        self._has_written = True
        self._transport.write(b"%x\r\n%b\r\n" % (len(part), part))
        return True

    def has_written(self) -> bool:
        has_written, self._has_written = self._has_written, False
        return has_written
