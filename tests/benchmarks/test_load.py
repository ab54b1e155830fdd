"""The load generator against servers whose answers are known to the byte."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from benchmarks.arithmetic import Outcome
from benchmarks.load import Ask, make_ask, run_load

BODY = b'{"usage": {"prompt_tokens": 3, "completion_tokens": 5}}'
WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
FRAMES = (
    b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n',
    b'data: {"choices":[{"delta":{"content":"Hi"}}],"usage":null}\n\n',
    b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":2}}\n\n',
    b"data: [DONE]\n\n",
)


class Peer:
    """Answers each request with the same parts, ``pause_s`` apart."""

    def __init__(self, *parts: bytes, pause_s: float = 0.0):
        self.parts, self.pause_s = parts, pause_s
        self.requests = self.connections = self.lost = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
                await reader.readexactly(length)
                self.requests += 1
                for part in self.parts:
                    writer.write(part)
                    await writer.drain()
                    await asyncio.sleep(self.pause_s)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.lost += 1
        finally:
            writer.close()


@asynccontextmanager
async def running(peer: Peer) -> AsyncIterator[str]:
    server = await asyncio.start_server(peer.serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def chunked(*parts: bytes) -> list[bytes]:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return [head, *(b"%x\r\n%s\r\n" % (len(part), part) for part in parts), b"0\r\n\r\n"]


async def load(url: str, asks: list[Ask], concurrency: int = 2) -> list[Outcome]:
    return await run_load(iter(asks), url, concurrency=concurrency, most_s=10)


async def test_every_request_is_sent_once_and_connections_are_kept() -> None:
    peer = Peer(WHOLE)
    async with running(peer) as url:
        outcomes = await load(url, [make_ask(f"{url}/v1/x", {"a": 1}, "k")] * 20)
        assert peer.requests == len(outcomes) == 20
        assert peer.connections == 2
    assert {(o.status, o.prompt_tokens, o.completion_tokens) for o in outcomes} == {(200, 3, 5)}


async def test_first_token_is_the_first_frame_with_content() -> None:
    peer = Peer(*chunked(*FRAMES), pause_s=0.05)
    async with running(peer) as url:
        (outcome,) = await load(url, [make_ask(f"{url}/v1/x", {}, kind="stream")])
    assert (outcome.prompt_tokens, outcome.completion_tokens) == (7, 2)
    assert outcome.first_at is not None
    # Head and role come before it, 0.05 s each; usage, [DONE] and the end after it.
    assert outcome.first_at - outcome.started_at >= 0.095
    assert outcome.ended_at - outcome.first_at >= 0.14


async def test_hanging_up_closes_the_connection_in_the_middle() -> None:
    peer = Peer(*chunked(*FRAMES), pause_s=0.02)
    async with running(peer) as url:
        ask = make_ask(f"{url}/v1/x", {}, kind="stream", hangs_up=True)
        outcomes = await load(url, [ask, ask], concurrency=1)
        assert [(o.status, o.has_hung_up, o.completion_tokens) for o in outcomes] == [
            (200, True, 0)
        ] * 2
        assert peer.connections == 2


async def test_errors_and_lost_connections_are_failures() -> None:
    refusal = b"HTTP/1.1 429 Slow down\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
    async with running(Peer(refusal)) as url:
        (refused,) = await load(url, [make_ask(f"{url}/v1/x", {})])
    assert refused.status == 429
    async with running(
        Peer(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", b"not http")
    ) as url:
        (broken,) = await load(url, [make_ask(f"{url}/v1/x", {})])
    assert broken.status == 0
    assert broken.error


async def test_error_frame_in_a_stream_is_a_failure() -> None:
    async with running(Peer(*chunked(b'data: {"error":{"message":"no"}}\n\n'))) as url:
        (outcome,) = await load(url, [make_ask(f"{url}/v1/x", {}, kind="stream")])
    assert outcome.status == 0


async def test_time_bounds_an_endless_run() -> None:
    peer = Peer(WHOLE, pause_s=0.01)
    async with running(peer) as url:
        asks = itertools.repeat(make_ask(f"{url}/v1/x", {}))
        outcomes = await run_load(asks, url, concurrency=2, most_s=0.2)
    assert 2 <= len(outcomes) <= 60


async def test_load_goes_to_loopback_only() -> None:
    with pytest.raises(ValueError, match=r"127\.0\.0\.1 only"):
        await run_load(iter([]), "http://192.0.2.1:80", concurrency=1, most_s=1)
