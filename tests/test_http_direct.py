"""The inference endpoints' own cycle: what comes over the wire, and what stays uvicorn's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn

from api.http import wire_of
from config import http_head, web
from deploy.local.files import free_port

PATH = b"/v1/chat/completions"
App = Callable[[dict[str, Any], Any, Any], Awaitable[None]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


@asynccontextmanager
async def served(app: App) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to a server with the web process's protocol and this application."""
    port = free_port()
    protocol = web.server_config("127.0.0.1", port).http
    config = uvicorn.Config(
        app, port=port, http=protocol, lifespan="off", log_config=None, timeout_keep_alive=1
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(20):
        yield reader, writer
    writer.close()
    server.should_exit = True
    await task


def request(body: bytes = b"{}", *headers: bytes, target: bytes = PATH) -> bytes:
    length = b"content-length: %d" % len(body)
    return b"\r\n".join([b"POST " + target + b" HTTP/1.1", b"host: a", length, *headers, b"", body])


async def head_of(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


async def whole_of(reader: asyncio.StreamReader) -> bytes:
    """The body of an answer that says its length."""
    head = await head_of(reader)
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    return await reader.readexactly(length)


async def answer(send: Send, body: bytes, *headers: tuple[bytes, bytes], status: int = 200) -> None:
    said = [*headers, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": said})
    await send({"type": "http.response.body", "body": body})


async def body_of(receive: Any) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += message["body"]
        if not message["more_body"]:
            return body


async def echo(scope: dict[str, Any], receive: Any, send: Send) -> None:
    """Says whether it was called directly, its query, and the body that it got."""
    mark = b"direct" if wire_of(scope) else b"uvicorn"
    body = await body_of(receive)
    await answer(send, b"%b %b %b" % (mark, scope["query_string"], body))


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (request(b"one"), b"direct  one"),
        (request(b"one", b"connection: close"), b"direct  one"),
        (request(b"one", target=PATH + b"?a=b"), b"uvicorn a=b one"),
        (request(b"one", target=b"/v1/chat/completion%73"), b"uvicorn  one"),
        (request(b"one", b"connection: upgrade", b"upgrade: h2c"), b"uvicorn  "),
        (request(b"one").replace(b"HTTP/1.1", b"HTTP/1.0"), b"uvicorn  one"),
        (request(b"one").replace(b"POST", b"PUT"), b"uvicorn  one"),
        (
            b"POST " + PATH + b" HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
            b"2\r\non\r\n1\r\ne\r\n0\r\n\r\n",
            b"direct  one",
        ),
    ],
)
async def test_what_is_direct_and_what_is_not(sent: bytes, expected: bytes) -> None:
    async with served(echo) as (reader, writer):
        writer.write(sent)
        assert await whole_of(reader) == expected


async def test_who_expects_a_continue_gets_one() -> None:
    async with served(echo) as (reader, writer):
        head, _, body = request(b"one", b"expect: 100-continue").partition(b"\r\n\r\n")
        writer.write(head + b"\r\n\r\n")
        assert (await head_of(reader)).startswith(b"HTTP/1.1 100")
        writer.write(body)
        assert await whole_of(reader) == b"uvicorn  one"


async def test_requests_of_both_kinds_share_a_connection_and_stand_in_line() -> None:
    async with served(echo) as (reader, writer):
        other = request(b"b", target=PATH + b"?q")
        writer.write(request(b"a") + other + request(b"c") + request(b"d"))
        found = [await whole_of(reader) for _ in range(4)]
        assert found == [b"direct  a", b"uvicorn q b", b"direct  c", b"direct  d"]
        writer.write(request(b"e"))
        assert await whole_of(reader) == b"direct  e"


async def test_a_body_in_pieces_and_larger_than_the_buffers_arrives_whole() -> None:
    body = bytes(range(256)) * 4096
    async with served(echo) as (reader, writer):
        sent = request(body)
        for start in range(0, len(sent), 100_000):
            writer.write(sent[start : start + 100_000])
            await writer.drain()
        assert await whole_of(reader) == b"direct  " + body


async def test_the_answer_ends_the_connection_if_it_was_asked_to() -> None:
    async with served(echo) as (reader, writer):
        writer.write(request(b"x", b"connection: close"))
        said = await reader.read()
        assert b"\r\nconnection: close\r\n" in said and said.endswith(b"direct  x")
        assert b"\r\ndate: " in said and b"\r\nserver: uvicorn\r\n" in said


async def stream(scope: dict[str, Any], receive: Any, send: Send) -> None:
    await body_of(receive)
    wire = wire_of(scope)
    assert wire is not None and not wire.write_now(b"before its head")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    assert not wire.write_now(b"before its first part")
    await send({"type": "http.response.body", "body": b"one ", "more_body": True})
    assert wire.write_now(b"two ")
    await send({"type": "http.response.body", "body": b"three", "more_body": False})
    assert not wire.write_now(b"after its end")


async def test_parts_of_a_stream_leave_in_their_order_as_chunks() -> None:
    async with served(stream) as (reader, writer):
        for _ in range(2):
            writer.write(request())
            assert b"\r\ntransfer-encoding: chunked\r\n" in await head_of(reader)
            chunks = await reader.readuntil(b"0\r\n\r\n")
            assert chunks == b"4\r\none \r\n4\r\ntwo \r\n5\r\nthree\r\n0\r\n\r\n"


async def test_what_a_slow_client_has_not_read_is_bounded() -> None:
    written: list[int] = []

    async def flood(scope: dict[str, Any], receive: Any, send: Send) -> None:
        await body_of(receive)
        wire, part = wire_of(scope), b"x" * 16_384
        assert wire is not None
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": part, "more_body": True})
        count = 1
        while wire.write_now(part):
            count += 1
            await asyncio.sleep(0)  # so that the transport can tell
        written.append(count)
        # It waits until the client reads on, and then goes on as before.
        await send({"type": "http.response.body", "body": part, "more_body": True})
        assert wire.write_now(part)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async with served(flood) as (reader, writer):
        writer.write(request())
        while not written:
            await asyncio.sleep(0.01)
        # What the kernel takes on both sides is some megabytes; ours is 64 KiB of it.
        assert written[0] * 16_384 < 32 << 20
        await head_of(reader)
        said = b""
        while not said.endswith(b"\r\n0\r\n\r\n"):
            said += await reader.read(1 << 20)
        assert said.count(b"x") == (written[0] + 2) * 16_384


@pytest.mark.parametrize("in_line", [False, True])
async def test_a_client_that_leaves_is_told_of_at_once(in_line: bool) -> None:
    gone = asyncio.Event()
    begun = asyncio.Event()

    async def wait(scope: dict[str, Any], receive: Any, send: Send) -> None:
        await body_of(receive)
        wire = wire_of(scope)
        assert wire is not None
        wire.when_gone(gone.set)
        begun.set()
        await gone.wait()
        assert (await receive())["type"] == "http.disconnect"
        await answer(send, b"nobody hears it")

    async with served(wait) as (_, writer):
        # Also while another request stands behind it.
        writer.write(request() * (2 if in_line else 1))
        await begun.wait()
        writer.transport.abort()
        async with asyncio.timeout(2):
            await gone.wait()


async def test_a_client_that_has_its_answer_may_leave() -> None:
    gone: list[bool] = []

    async def whole(scope: dict[str, Any], receive: Any, send: Send) -> None:
        wire = wire_of(scope)
        assert wire is not None
        wire.when_gone(lambda: gone.append(True))
        await body_of(receive)
        await answer(send, b"all of it")

    async with served(whole) as (reader, writer):
        writer.write(request())
        assert await whole_of(reader) == b"all of it"
        writer.transport.abort()
        await asyncio.sleep(0.1)
    assert not gone


async def failing(scope: dict[str, Any], receive: Any, send: Send) -> None:
    body = await body_of(receive)
    if body == b"header":
        await answer(send, b"x", (b"x-a", b"b\r\nx-c: d"))
    elif body == b"longer":
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1")]}
        )
        await send({"type": "http.response.body", "body": b"longer"})
    elif body == b"raised":
        raise ValueError("a fault of the application")
    elif body == b"half":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})


@pytest.mark.parametrize("fault", [b"header", b"raised", b"nothing"])
async def test_a_fault_of_the_application_is_a_500(fault: bytes) -> None:
    async with served(failing) as (reader, writer):
        writer.write(request(fault))
        said = await reader.read()
        assert said.startswith(b"HTTP/1.1 500") and b"x-c" not in said


@pytest.mark.parametrize("fault", [b"longer", b"half"])
async def test_a_fault_after_the_head_ends_the_connection(fault: bytes) -> None:
    async with served(failing) as (reader, writer):
        writer.write(request(fault))
        assert not (await reader.read()).endswith(b"0\r\n\r\n")


async def test_an_idle_connection_is_closed() -> None:
    async with served(echo) as (reader, writer):
        writer.write(request(b"x"))
        await whole_of(reader)
        assert await reader.read() == b""


async def test_a_slow_further_head_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_head, "HEAD_TIMEOUT_S", 0.3)
    async with served(echo) as (reader, writer):
        writer.write(request(b"x"))
        await whole_of(reader)
        writer.write(b"POST " + PATH)
        assert (await reader.read()).startswith(b"HTTP/1.1 408")
