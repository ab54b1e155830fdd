"""The head of a request is bounded in bytes and in time; what is ordinary passes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvicorn

from config import http_head, web
from deploy.local.files import free_port

REQUEST = b"GET / HTTP/1.1\r\nhost: test\r\n"


async def hello(scope: dict, receive: object, send: object) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


@asynccontextmanager
async def served() -> AsyncIterator[int]:
    """A server with the web process's own protocol and an application that greets."""
    port = free_port()
    config = web.server_config("127.0.0.1", port)
    config = uvicorn.Config(hello, port=port, http=config.http, lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    yield port
    server.should_exit = True
    await task


async def said(port: int, *parts: bytes, pause_s: float = 0.0) -> bytes:
    """What the server answers, to the end of the connection or of one answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = b""
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause_s)
        async with asyncio.timeout(10):
            answer = await reader.read(65536)
    except ConnectionError:
        pass
    writer.close()
    return answer


async def test_an_ordinary_request_passes() -> None:
    async with served() as port:
        assert b"hello" in await said(port, REQUEST + b"cookie: " + b"c" * 4096 + b"\r\n\r\n")


async def test_a_head_in_pieces_passes_and_so_does_the_next_request() -> None:
    async with served() as port:
        answer = await said(port, REQUEST[:9], REQUEST[9:] + b"\r\n", pause_s=0.05)
        assert b"200 OK" in answer


async def test_a_long_body_is_no_head(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_head, "MOST_HEAD_BYTES", 1024)
    head = b"POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 100000\r\n\r\n"
    async with served() as port:
        assert b"200 OK" in await said(port, head, b"b" * 100_000, pause_s=0.05)


@pytest.mark.parametrize("size", [http_head.MOST_HEAD_BYTES + 70_000, 8 << 20])
async def test_a_head_without_end_is_refused(size: int) -> None:
    async with served() as port:
        answer = await said(port, REQUEST, *[b"x-a: " + b"a" * 16_000 + b"\r\n"] * (size // 16_000))
        assert answer.startswith(b"HTTP/1.1 431") or answer == b""  # reset while still sending


@pytest.mark.parametrize("begun", [b"", REQUEST])
async def test_a_head_that_never_ends_is_given_up(
    monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    monkeypatch.setattr(http_head, "HEAD_TIMEOUT_S", 0.2)
    async with served() as port:
        assert (await said(port, begun)).startswith(b"HTTP/1.1 408")


async def test_a_further_request_on_the_connection_has_its_own_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_head, "HEAD_TIMEOUT_S", 0.3)
    async with served() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUEST + b"\r\n")
        assert b"200 OK" in await reader.read(4096)
        await asyncio.sleep(0.4)  # idle between requests is uvicorn's to bound
        writer.write(REQUEST)
        async with asyncio.timeout(5):
            answer = b""
            while chunk := await reader.read(4096):
                answer += chunk
        assert b"408" in answer
        writer.close()
