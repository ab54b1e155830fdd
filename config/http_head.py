"""A bound for the head of a request, which uvicorn's httptools protocol has not.

Without it one anonymous connection can send headers for ever and every byte is kept:
288 MB of them grew a web process from 31 to 368 MiB. Bodies are bounded by whoever
reads them (``api.http``, Django).
"""

from __future__ import annotations

from asyncio import TimerHandle, Transport
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from config.http_cork import CorkedTransport

# Cookies of 4 KiB, a key of 60 bytes, and what proxies add; nginx allows 32 KiB in all.
MOST_HEAD_BYTES = 64 * 1024
# From the connection, or a further request's first byte, to the end of its head.
HEAD_TIMEOUT_S = 15.0


class BoundedHeadProtocol(HttpToolsProtocol):
    """Ends a connection whose head is too long (431) or too slow (408)."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_bytes: int | None = 0  # None: the head is whole
        self._head_timer: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(CorkedTransport(transport, self.loop))  # type: ignore[arg-type]
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_done()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
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
        self._head_done()
        super().on_headers_complete()

    def handle_websocket_upgrade(self) -> None:
        # A WebSocket has its own protocol, which is given the transport and does more with it.
        if isinstance(self.transport, CorkedTransport):
            self.transport = self.transport.uncorked()
        super().handle_websocket_upgrade()

    def _await_head(self) -> None:
        self._head_bytes = 0
        self._head_timer = self.loop.call_later(
            HEAD_TIMEOUT_S, self._refuse, b"408 Request Timeout"
        )

    def _head_done(self) -> None:
        self._head_bytes = None
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _refuse(self, status: bytes) -> None:
        self._head_done()
        if not self.transport.is_closing():
            self.transport.write(
                b"HTTP/1.1 " + status + b"\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
            )
            self.transport.close()
