"""Where gateways come while they cannot hear Redis: work in, deltas and heartbeats out.

A gateway opens a line when Redis is away for it, and what is for that gateway goes by the
line until it says goodbye. Whoever comes must know the token in this replica's heartbeats.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
import socket
from collections.abc import Callable

from inference import bypass, wire
from inference.wire import Delta, Heartbeat, Submission

log = logging.getLogger(__name__)

HELLO_TIMEOUT_S = 2.0
BEAT_S = 0.5
MOST_LINES = 256  # of gateways; more than any fleet has


class BypassServer:
    """``start`` and ``stop`` on the engine's loop; ``address`` is told in heartbeats."""

    def __init__(
        self,
        on_work: Callable[[list[Submission]], None],
        on_abort: Callable[[list[str]], None],
        heartbeat: Callable[[], Heartbeat],
        on_line: Callable[[], None],
        held: Callable[[], set[str]],
    ):
        self.address = ""
        self.lines: dict[str, asyncio.StreamWriter] = {}
        self._on_work, self._on_abort = on_work, on_abort
        self._heartbeat, self._on_line, self._held = heartbeat, on_line, held
        self._token = secrets.token_urlsafe(24)
        self._server: asyncio.Server | None = None
        self._beating: asyncio.Task[None] | None = None
        self._taking: set[asyncio.Task[None]] = set()

    async def start(self, host: str) -> None:
        """Listen at ``host``, on a port of the system's choice; empty: not at all."""
        if not host:
            return
        self._server = await asyncio.start_server(self._come, host, 0)
        port = self._server.sockets[0].getsockname()[1]
        told = socket.gethostbyname(socket.gethostname()) if host == "0.0.0.0" else host  # noqa: S104
        self.address = f"{told}:{port}/{self._token}"
        self._beating = asyncio.create_task(self._beat())

    async def stop(self) -> None:
        if self._server is None or self._beating is None:
            return
        self._beating.cancel()
        self._server.close()
        for task in list(self._taking):
            task.cancel()
        await asyncio.gather(self._beating, *self._taking, return_exceptions=True)

    def send(self, gateway: str, deltas: list[Delta]) -> bool:
        """Whether the gateway's line took them."""
        writer = self.lines.get(gateway)
        content = bypass.frame("deltas", wire.encode(deltas))
        return writer is not None and bypass.send(writer, content)

    def beat(self) -> None:
        """Tell every line how this replica is."""
        content = bypass.frame("beat", wire.encode(self._heartbeat()))
        for writer in self.lines.values():
            bypass.send(writer, content)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            if self.lines:
                self.beat()

    async def _come(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._taking.add(task)
        gateway = ""
        try:
            gateway = await self._greeted(reader)
            if gateway:
                await self._take(gateway, reader, writer)
        except (OSError, EOFError, TimeoutError, ValueError) as error:
            log.warning("bypass.broken", extra={"gateway": gateway, "error": repr(error)})
        finally:
            self._taking.discard(task)
            if self.lines.get(gateway) is writer:
                del self.lines[gateway]
            writer.close()

    async def _greeted(self, reader: asyncio.StreamReader) -> str:
        """The gateway's name; empty if it does not know the token."""
        async with asyncio.timeout(HELLO_TIMEOUT_S):
            kind, payload = await bypass.read_frame(reader)
        hello = bypass.decode_hello(payload) if kind == "hello" else bypass.Hello("", "")
        is_known = hmac.compare_digest(hello.token.encode(), self._token.encode())
        if not is_known or len(self.lines) >= MOST_LINES:
            log.warning("bypass.refused")
            return ""
        return hello.gateway

    async def _take(
        self, gateway: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        log.warning("bypass.opened", extra={"gateway": gateway})
        self.lines[gateway] = writer
        self.beat()
        self._on_line()
        while True:
            kind, payload = await bypass.read_frame(reader)
            if kind == "work":
                self._on_work(wire.decode_submissions(payload))
            elif kind == "abort":
                self._on_abort(wire.decode_abort(payload).engine_ids)
            elif kind == "held":
                held = self._held()
                unknown = [
                    each for each in wire.decode_abort(payload).engine_ids if each not in held
                ]
                bypass.send(writer, bypass.frame("unknown", wire.encode(wire.Abort(unknown))))
            elif kind == "bye":
                # From here on by Redis; what was sent before goes out before the end does.
                del self.lines[gateway]
                bypass.send(writer, bypass.frame("bye"))
                log.warning("bypass.closed", extra={"gateway": gateway})
                return
