"""The head of an answer waits for its body, and both leave in one write.

uvicorn writes each by itself. On the token path a write is a tenth of a whole request's
CPU, so a second one for a body that is there already is too much.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, Transport
from typing import Any


class CorkedTransport:
    """A transport as far as uvicorn's HTTP protocol uses one; only heads are held, and for no
    longer than this turn of the loop."""

    def __init__(self, transport: Transport, loop: AbstractEventLoop):
        self.below = transport
        self._loop = loop
        self._head = b""

    def write(self, data: bytes) -> None:
        if self._head:
            data, self._head = self._head + data, b""
        elif data.startswith(b"HTTP/1.1 200"):
            self._head = data
            self._loop.call_soon(self._flush)
            return
        self.below.write(data)

    def close(self) -> None:
        self._flush()
        self.below.close()

    def uncorked(self) -> Transport:
        """The transport itself, with everything written; this one is not to be used again."""
        self._flush()
        return self.below

    def _flush(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            if not self.below.is_closing():
                self.below.write(head)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.below, name)
