"""A TCP proxy in front of Redis that a test can cut: to all clients, or to some, Redis goes away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit

BARRED_S = 0.3


def _nobody(port: int) -> bool:
    return False


class Proxy:
    """``url`` is Redis's through the proxy; ``cut``, ``hang``, ``bar`` and ``mend`` at will."""

    def __init__(self, url: str):
        self._there = urlsplit(url)
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: dict[asyncio.Task[None], int] = {}  # with their client's port
        self._server: asyncio.Server | None = None
        self._port = 0
        self._is_hanging = False
        self._is_barred: Callable[[int], bool] = _nobody

    @property
    def url(self) -> str:
        credentials, _, _ = self._there.netloc.rpartition("@")
        host = f"{credentials}@127.0.0.1" if credentials else "127.0.0.1"
        return urlunsplit(self._there._replace(netloc=f"{host}:{self._port}"))

    async def mend(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Drop every connection and refuse new ones."""
        assert self._server is not None
        self._is_hanging = False
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._writers.clear()

    def bar(self, is_barred: Callable[[int], bool] = _nobody) -> None:
        """Drop the connections of clients with these ports, and refuse theirs from now on."""
        self._is_barred = is_barred
        for task, port in list(self._tasks.items()):
            if is_barred(port):
                task.cancel()

    def hang(self) -> None:
        """Take what comes and pass nothing on, until the next ``cut``."""
        self._is_hanging = True

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            if not self._is_hanging:
                writer.write(data)
                await writer.drain()
        writer.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task, port = asyncio.current_task(), writer.get_extra_info("peername")[1]
        assert task is not None
        is_barred = self._is_barred
        if is_barred is not _nobody and await asyncio.to_thread(is_barred, port):
            # Not at once: who is barred tries ten times a second, and each look costs.
            await asyncio.sleep(BARRED_S)
            writer.transport.abort()
            return
        self._tasks[task] = port
        task.add_done_callback(self._tasks.pop)
        ends = {writer}
        try:
            far_reader, far_writer = await asyncio.open_connection(
                self._there.hostname, self._there.port
            )
            ends.add(far_writer)
            self._writers |= ends
            await asyncio.gather(self._copy(reader, far_writer), self._copy(far_reader, writer))
        except (OSError, asyncio.CancelledError):
            pass  # cut, or the client left
        finally:
            self._writers -= ends
            for end in ends:
                end.transport.abort()


@asynccontextmanager
async def proxied(url: str) -> AsyncIterator[Proxy]:
    proxy = Proxy(url)
    await proxy.mend()
    try:
        yield proxy
    finally:
        await proxy.cut()
