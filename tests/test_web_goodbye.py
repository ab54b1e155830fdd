"""A web process that stops tells its clients before it hangs up."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import uvicorn

from config import web
from deploy.local.files import free_port


async def answer(scope: dict[str, Any], receive: Any, send: Any) -> None:
    headers = [(b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.mark.parametrize("path", [b"/v1/chat/completions", b"/v1/models"])
async def test_answers_of_a_stopping_server_end_their_connection(path: bytes) -> None:
    """In the token path's own cycle, and in uvicorn's."""
    port = free_port()
    protocol = web.server_config("127.0.0.1", port).http
    config = uvicorn.Config(answer, port=port, http=protocol, lifespan="off", log_config=None)
    server = web.PoliteServer(config)
    running = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def ask() -> bytes:
        writer.write(b"POST " + path + b" HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n{}")
        head = await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(2) == b"ok"
        return head.lower()

    async with asyncio.timeout(10):
        assert b"connection: close" not in await ask()
        server.should_exit = True
        await asyncio.sleep(web.GOODBYE_S / 2)
        assert b"connection: close" in await ask(), "still served, and told"
        assert await reader.read() == b""
        await running
    writer.close()
