"""What 10,000 WebSockets on which nothing happens cost a web process, and everybody else.

The clients are a handful of bytes each: a handshake, and an answer to each ping. Requests by
HTTP are measured before the sockets open and while they are open, on the same process.
"""

from __future__ import annotations

import asyncio
import base64
import os
import time

import psutil
import uvloop

from benchmarks.arithmetic import percentile
from benchmarks.cpu import rss_bytes
from benchmarks.gateway import make_asks
from benchmarks.load import run_load
from benchmarks.server import BenchmarkError, Server, say
from benchmarks.sizes import Sizes
from benchmarks.sluice import platform

# Handshakes under way at once: a listening socket's backlog holds that many.
AT_ONCE = 100
OPEN_TIMEOUT_S = 120.0
SETTLE_S = 3.0
ROUNDS = 3


def measure(sizes: Sizes) -> dict[str, object]:
    count = str(sizes.sockets)
    with platform(
        "simulated",
        WEBSOCKET_MAX_PER_KEY=count,
        WEBSOCKET_MAX_PER_ORGANIZATION=count,
        WEBSOCKET_IDLE_S="3600",
    ) as server:
        return uvloop.run(_measure(server, sizes))


async def _measure(server: Server, sizes: Sizes) -> dict[str, object]:
    web = psutil.Process(server.roots["web"])
    await _cost(server, web, sizes.sockets_s)  # what is imported or cached at first
    rows = [await _cost(server, web, sizes.sockets_s) for _ in range(ROUNDS)]
    before = rss_bytes(web.pid)
    began = time.monotonic()
    sockets = await _open(server, sizes.sockets)
    opened_s = time.monotonic() - began
    await asyncio.sleep(SETTLE_S)
    after = rss_bytes(web.pid)
    per_socket = (after - before) / len(sockets)
    say(f"{len(sockets)} sockets: {after / 2**20:.0f} MiB, {per_socket:,.0f} bytes each")
    idle_cpu = await _idle_cpu(web)
    open_rows = [await _cost(server, web, sizes.sockets_s) for _ in range(ROUNDS)]
    for row in open_rows:  # what the pings take anyway is no request's
        row["web_us"] -= idle_cpu * sizes.sockets_s / row["requests"] * 1e6
    alive = sum(not socket.is_lost for socket in sockets)
    if alive != len(sockets):
        raise BenchmarkError(f"{len(sockets) - alive} of {len(sockets)} sockets were closed.")
    for socket in sockets:
        socket.close()
    return {
        "sockets": len(sockets),
        "opened_per_s": len(sockets) / opened_s,
        "rss_before_bytes": before,
        "rss_open_bytes": after,
        "bytes_per_socket": per_socket,
        "idle_cpu_share": idle_cpu,
        "closed": rows,
        "open": open_rows,
    }


async def _open(server: Server, count: int) -> list[IdleSocket]:
    loop, host = asyncio.get_running_loop(), server.url.removeprefix("http://")
    name, _, port = host.partition(":")
    gate = asyncio.Semaphore(AT_ONCE)

    async def one() -> IdleSocket:
        async with gate:
            _, socket = await loop.create_connection(
                lambda: IdleSocket(host, server.key), name, int(port)
            )
            await socket.opened
            return socket

    async with asyncio.timeout(OPEN_TIMEOUT_S):
        return await asyncio.gather(*(one() for _ in range(count)))


class IdleSocket(asyncio.Protocol):
    """Says hello, and that it is still there."""

    def __init__(self, host: str, key: str):
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.is_lost = False
        self._hello = (
            f"GET /v1/stream HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\n"
            f"Authorization: Bearer {key}\r\n\r\n"
        ).encode()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        transport.write(self._hello)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        if not self.opened.done():
            if data.startswith(b"HTTP/1.1 101 "):
                self.opened.set_result(None)
            else:
                self.opened.set_exception(BenchmarkError(f"No socket: {data[:200]!r}"))
        elif data[0] == 0x89:  # a ping of at most 125 bytes; its pong is masked with zeros
            payload = data[2 : 2 + data[1]]
            pong = bytes([0x8A, 0x80 | len(payload)]) + b"\0\0\0\0" + payload
            self._transport.write(pong)  # type: ignore[attr-defined]

    def connection_lost(self, error: Exception | None) -> None:
        self.is_lost = True
        if not self.opened.done():
            self.opened.set_exception(BenchmarkError(f"No socket: {error!r}"))

    def close(self) -> None:
        self._transport.close()


async def _idle_cpu(web: psutil.Process, seconds: float = 30.0) -> float:
    """The share of a core that the open sockets take; a ping of each is in it."""
    before = _cpu_s(web)
    await asyncio.sleep(seconds)
    return (_cpu_s(web) - before) / seconds


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


async def _cost(server: Server, web: psutil.Process, seconds: float) -> dict[str, float]:
    """Requests one after another, as in the gateway's own benchmark."""
    before = _cpu_s(web)
    outcomes = await run_load(make_asks(server), server.url, concurrency=1, most_s=seconds)
    wrong = [outcome for outcome in outcomes if outcome.status != 200]
    if wrong:
        raise BenchmarkError(f"Status {wrong[0].status}. {wrong[0].error}")
    latencies = [(each.ended_at - each.started_at) * 1000 for each in outcomes]
    return {
        "requests": float(len(outcomes)),
        "p50_ms": percentile(latencies, 0.5),
        "p99_ms": percentile(latencies, 0.99),
        "web_us": (_cpu_s(web) - before) / len(outcomes) * 1e6,
    }
