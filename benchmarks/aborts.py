"""From a client's disconnect to the abort in the engine, as the replica counts it."""

from __future__ import annotations

import asyncio
import time
from urllib.parse import urlsplit

import uvloop

from benchmarks.arithmetic import percentile
from benchmarks.load import Ask, make_ask
from benchmarks.server import BenchmarkError, Server
from benchmarks.sluice import replica_metric

TIMES = 20
GIVE_UP_S = 5.0
STREAM_TIMEOUT_S = 60.0
LEFT_AFTER = 5  # frames with content
ABORTED = "sluice_replica_aborted_sequences_total"


def measure(server: Server, replica: str = "chat-1") -> dict[str, object]:
    """Milliseconds over ``TIMES`` streams, each left in its midst.

    The replica's counter is read over HTTP again and again, which takes a few
    milliseconds that are in the result.
    """
    found = [uvloop.run(_one(server, replica, number)) for number in range(TIMES)]
    return {
        "times": TIMES,
        "p50_ms": percentile(found, 0.5),
        "most_ms": max(found),
        "each_ms": [round(each, 1) for each in found],
    }


async def _one(server: Server, replica: str, number: int) -> float:
    before = replica_metric(replica, ABORTED)
    began = await _leave(server, _ask(server, number))
    while await asyncio.to_thread(replica_metric, replica, ABORTED) <= before:
        if time.perf_counter() - began > GIVE_UP_S:
            raise BenchmarkError(f"No abort within {GIVE_UP_S:g} s of a disconnect.")
    return (time.perf_counter() - began) * 1000


async def _leave(server: Server, ask: Ask) -> float:
    """When the connection was closed, in the middle of the stream."""
    parts, read = urlsplit(server.url), b""
    async with asyncio.timeout(STREAM_TIMEOUT_S):
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(ask.content)
        while read.count(b'"content"') < LEFT_AFTER:
            if not (more := await reader.read(65_536)):
                raise BenchmarkError(f"A stream ended by itself: {read[-300:]!r}")
            read += more
        left_at = time.perf_counter()
        writer.transport.abort()
    return left_at


def _ask(server: Server, number: int) -> Ask:
    body = {
        "model": server.model,
        "messages": [{"role": "user", "content": f"({number}) Count up from one."}],
        "max_tokens": 2_000,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
    }
    return make_ask(server.chat, body, server.key, kind="stream")
