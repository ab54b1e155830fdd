"""A bound for the head of a request, which uvicorn's httptools protocol has not.

Without it one anonymous connection can send headers for ever and every byte is kept:
288 MB of them grew a web process from 31 to 368 MiB. Bodies are bounded by whoever
reads them (``api.http``, Django). The time between requests is bounded here too, by the
same sweep (``config.http_sweep``) instead of uvicorn's timer for each.
"""

from __future__ import annotations

from asyncio import Transport
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from config.http_cork import CorkedTransport
from config.http_sweep import sweeper_of

# Cookies of 4 KiB, a key of 60 bytes, and what proxies add; nginx allows 32 KiB in all.
MOST_HEAD_BYTES = 64 * 1024
# From the connection, or a further request's first byte, to the end of its head.
HEAD_TIMEOUT_S = 15.0


class BoundedHeadProtocol(HttpToolsProtocol):
    """Ends a connection whose head is too long (431) or too slow (408), or that idles."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_bytes: int | None = 0  # None: the head is whole
        self._head_since = 0.0
        self._idle_since: float | None = None
        self._sweeper = sweeper_of(self.loop)

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(CorkedTransport(transport, self.loop))  # type: ignore[arg-type]
        self._await_head()
        self._sweeper.watch(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._sweeper.forget(self)
        self._head_bytes = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._idle_since = None
        super().data_received(data)
        if self._head_bytes is None or self.transport.is_closing():
            return
        # A read that ends in the head belongs to it, but for an earlier request's rest.
        self._head_bytes += len(data)
        if self._head_bytes > MOST_HEAD_BYTES:
            self._refuse(b"431 Request Header Fields Too Large")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._head_bytes is None:
            self._await_head()

    def on_headers_complete(self) -> None:
        self._head_bytes = None
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """As uvicorn's, but for its timer: ``check_times`` ends who idles."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        else:
            self._idle_since = self.loop.time()

    def handle_websocket_upgrade(self) -> None:
        # A WebSocket has its own protocol, which is given the transport and does more with it.
        self._sweeper.forget(self)
        if isinstance(self.transport, CorkedTransport):
            self.transport = self.transport.uncorked()
        super().handle_websocket_upgrade()

    def check_times(self, now: float) -> None:
        if self._head_bytes is not None:
            if now - self._head_since > HEAD_TIMEOUT_S:
                self._refuse(b"408 Request Timeout")
        elif self._idle_since is not None and now - self._idle_since > self.timeout_keep_alive:
            self.timeout_keep_alive_handler()

    def _await_head(self) -> None:
        self._head_bytes = 0
        self._head_since = self.loop.time()

    def _refuse(self, status: bytes) -> None:
        self._head_bytes = None
        if not self.transport.is_closing():
            self.transport.write(
                b"HTTP/1.1 " + status + b"\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
            )
            self.transport.close()
