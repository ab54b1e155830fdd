"""One Redis connection that many coroutines share: commands leave as they come.

The token path's client. A pool gives each command a connection, a task switch
and a timeout of its own; here a command is one future and one place in a queue,
and those of one turn of the loop are one write (Redis answers in order).
Measured on two cores: 15 to 20 µs of CPU a command instead of 100 to 170 through
redis-py's asyncio client, which serves everything that is not per request.

While answers are outstanding, what is asked meanwhile waits for them, a moment at most, and
leaves in one write: the busier Redis is, the fewer and the longer are its messages.

Answers that are late fail the whole connection, because everything behind them
is late too. A cancelled caller loses its answer and nobody else's: each reply is
matched to its own future, whether or not somebody still waits for it.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import ssl
import time
from collections import deque
from typing import Any, cast

import hiredis
from django.conf import settings
from redis.connection import parse_url
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

log = logging.getLogger(__name__)

# A bound, not a tuning knob: at 20 µs a command this is a fifth of a second.
MOST_PENDING = 10_000
# After a failed connect, callers fail at once for this long instead of queueing up.
RECONNECT_PAUSE_S = 0.1
WATCH_EVERY_S = 0.25
# How long a command waits for the answers before it, so that a Redis that is far away costs no
# command a second round trip. The event loop's timers are no finer.
MOST_HELD_S = 0.001

Part = str | bytes | int | float


class Script:
    """A Lua script and the SHA-1 by which Redis knows it."""

    def __init__(self, text: str):
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


class RedisLink:
    """``call`` raises redis-py's ``RedisError`` tree, as any other client of ours does.

    To the server of ``REDIS_URL`` it goes by ``REDIS_SOCKET`` where that is set.
    """

    def __init__(self, url: str, *, timeout_s: float, name: str):
        self._where = parse_url(url)
        if settings.REDIS_SOCKET and url == settings.REDIS_URL:
            self._where["path"] = settings.REDIS_SOCKET
        self._timeout_s = timeout_s
        self._name = name
        self._wire: _Wire | None = None
        self._connecting: asyncio.Task[_Wire] | None = None
        self._failed_at = -RECONNECT_PAUSE_S

    async def call(self, *parts: Part) -> Any:
        """One command and its reply (bytes, ints, None and lists of them)."""
        wire = self._wire
        if wire is None or not wire.is_open:
            wire = await self._connected()
        return await wire.start(_packed(*parts))

    def start(self, *parts: Part) -> asyncio.Future[Any]:
        """The same, begun at once, for who is called back instead of waiting."""
        wire = self._wire
        if wire is None or not wire.is_open:
            return asyncio.ensure_future(self.call(*parts))
        return wire.start(_packed(*parts))

    async def run_script(self, script: Script, keys: list[str], arguments: list[Part]) -> Any:
        """EVALSHA, and EVAL where Redis has not seen (or has lost) the script."""
        try:
            return await self.call("EVALSHA", script.sha, len(keys), *keys, *arguments)
        except ResponseError as error:
            if not str(error).startswith("NOSCRIPT"):
                raise
        return await self.call("EVAL", script.text, len(keys), *keys, *arguments)

    async def aclose(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
        if self._wire is not None:
            self._wire.close()

    async def _connected(self) -> _Wire:
        """The open connection; callers that come while it is made wait for the same one."""
        if self._connecting is None:
            if time.monotonic() - self._failed_at < RECONNECT_PAUSE_S:
                raise RedisConnectionError("Redis could not be reached a moment ago.")
            self._connecting = asyncio.create_task(self._connect())
            self._connecting.add_done_callback(self._connect_done)
        # A caller that gives up must not take the connection from those who wait.
        return await asyncio.shield(self._connecting)

    def _connect_done(self, task: asyncio.Task[_Wire]) -> None:
        self._connecting = None
        if task.cancelled() or task.exception() is not None:
            self._failed_at = time.monotonic()
        else:
            self._wire = task.result()

    async def _connect(self) -> _Wire:
        loop, where, wire = asyncio.get_running_loop(), self._where, None
        try:
            async with asyncio.timeout(min(self._timeout_s, 5.0)):
                if "path" in where:
                    _, wire = await loop.create_unix_connection(self._make_wire, where["path"])
                else:
                    _, wire = await loop.create_connection(
                        self._make_wire,
                        where.get("host", "localhost"),
                        where.get("port", 6379),
                        ssl=self._tls(),
                    )
                await self._greet(wire)
                opened, wire = wire, None
                return opened
        except TimeoutError as error:
            raise RedisTimeoutError("Redis did not take the connection in time.") from error
        except OSError as error:
            raise RedisConnectionError(f"Redis cannot be reached: {error}") from error
        finally:
            if wire is not None:  # it was opened, and then refused us or came too late
                wire.close()

    def _make_wire(self) -> _Wire:
        return _Wire(self._timeout_s)

    def _tls(self) -> ssl.SSLContext | None:
        if self._where.get("connection_class") is None:
            return None
        return ssl.create_default_context()

    async def _greet(self, wire: _Wire) -> None:
        password, user = self._where.get("password"), self._where.get("username")
        if password:
            login = ("AUTH", user, password) if user else ("AUTH", password)
            await wire.send(_packed(*login))
        if self._where.get("db"):
            await wire.send(_packed("SELECT", self._where["db"]))
        await wire.send(_packed("CLIENT", "SETNAME", self._name))


def _packed(*parts: Part) -> bytes:
    return hiredis.pack_command(parts)  # type: ignore[arg-type]  # its stub forgets "..."


class _Wire(asyncio.Protocol):
    """The bytes of one connection: commands out, replies matched to futures in order."""

    def __init__(self, timeout_s: float):
        self.is_open = False
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(protocolError=RedisConnectionError, replyError=ResponseError)
        self._pending: deque[tuple[asyncio.Future[Any], float]] = deque()
        self._outgoing: list[bytes] = []
        self._held: asyncio.Handle | None = None
        self._watch: asyncio.TimerHandle | None = None

    async def send(self, command: bytes) -> Any:
        return await self.start(command)

    def start(self, command: bytes) -> asyncio.Future[Any]:
        if not self.is_open:
            raise RedisConnectionError("The connection to Redis is closed.")
        if len(self._pending) >= MOST_PENDING:
            raise RedisConnectionError("Too many commands wait for Redis.")
        future = self._loop.create_future()
        self._pending.append((future, self._loop.time()))
        self._outgoing.append(command)
        if len(self._outgoing) == 1:
            # A write is a system call of 20 µs and more: those of one turn of the loop share it.
            self._loop.call_soon(self._flush_or_hold)
        return future

    def _flush_or_hold(self) -> None:
        if len(self._pending) > len(self._outgoing):  # answers are outstanding
            self._held = self._loop.call_later(MOST_HELD_S, self._flush)
        else:
            self._flush()

    def _flush(self) -> None:
        if self._held is not None:
            self._held.cancel()
            self._held = None
        outgoing, self._outgoing = self._outgoing, []
        if outgoing and self.is_open:
            self._transport.write(outgoing[0] if len(outgoing) == 1 else b"".join(outgoing))

    def close(self) -> None:
        if self.is_open:
            self._transport.close()

    # --- asyncio.Protocol -------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        self.is_open = True
        self._watch = self._loop.call_later(WATCH_EVERY_S, self._check_lateness)

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        try:
            while (reply := self._reader.gets()) is not False:
                future, _ = self._pending.popleft()
                if future.done():
                    continue  # its caller was cancelled
                if isinstance(reply, ResponseError):
                    future.set_exception(reply)
                else:
                    future.set_result(reply)
        except RedisConnectionError as error:
            self._fail(error)
            return
        if self._held is not None and len(self._pending) == len(self._outgoing):
            # Whoever was answered just now asks its next before this runs.
            self._held.cancel()
            self._held = self._loop.call_soon(self._flush)

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(RedisConnectionError(f"Redis closed the connection: {error or 'end of file'}"))

    # --- Failing ----------------------------------------------------------------------

    def _check_lateness(self) -> None:
        if self._pending and self._loop.time() - self._pending[0][1] > self._timeout_s:
            self._fail(RedisTimeoutError("Redis did not answer in time."))
            return
        self._watch = self._loop.call_later(WATCH_EVERY_S, self._check_lateness)

    def _fail(self, error: RedisError) -> None:
        """End the connection and everything that waits on it."""
        self.is_open = False
        if self._watch is not None:
            self._watch.cancel()
        self._transport.abort()
        while self._pending:
            future, _ = self._pending.popleft()
            if not future.done():
                # Each its own: an exception collects the frames that it passes through.
                future.set_exception(type(error)(*error.args))
