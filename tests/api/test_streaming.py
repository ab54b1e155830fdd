"""What a client of a stream hears while there is nothing to tell, and when it fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from api import sse
from api.dialect import OPENAI
from api.http import Request, wire_of
from api.streaming import stream
from inference.errors import NoReplica
from tests.test_http_direct import PATH, App, body_of, head_of, request, served

SILENCE_S = 0.4
# What our own server does beyond ASGI, and what uvicorn's does for an address with a query.
TARGETS = (PATH, PATH + b"?beta=true")
Chunks = Callable[[Any], AsyncIterator[list[bytes]]]


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "KEEP_ALIVE_S", SILENCE_S)


def app_of(chunks: Chunks, failures: list[BaseException] | None = None) -> App:
    """An application that streams ``chunks(wire)``; what it raises goes to ``failures``."""

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await body_of(receive)
        wire = wire_of(scope)

        async def settle() -> None: ...

        run: Any = SimpleNamespace(wire=wire, headers=[], settle=settle)
        call: Any = SimpleNamespace(chunks=lambda run: chunks(run.wire))
        try:
            await stream(Request(scope, receive), call, run, send, OPENAI)
        except NoReplica as error:
            assert failures is not None
            failures.append(error)
            start = {"type": "http.response.start", "status": 503, "headers": []}
            await send(start)
            await send({"type": "http.response.body", "body": b""})

    return app


async def streamed(app: App, target: bytes) -> tuple[bytes, bytes]:
    """Head and body of the answer."""
    async with served(app) as (reader, writer):
        writer.write(request(b"{}", b"connection: close", target=target))
        head, parts = await head_of(reader), b""
        while size := int(await reader.readline(), 16):
            parts += await reader.readexactly(size)
            await reader.readexactly(2)
        return head, parts


@pytest.mark.parametrize("target", TARGETS)
async def test_a_silent_stream_says_that_it_lives_before_its_first_chunk_and_between(
    target: bytes,
) -> None:
    async def chunks(_wire: Any) -> AsyncIterator[list[bytes]]:
        await asyncio.sleep(2.5 * SILENCE_S)
        yield [b"1"]
        await asyncio.sleep(3.5 * SILENCE_S)
        yield [b"2"]

    head, body = await streamed(app_of(chunks), target)

    assert head.startswith(b"HTTP/1.1 200") and b"text/event-stream" in head
    before, between, after = body.split(b"data: ", 2)
    assert set(before.split(b"\n\n")) == {b": keep-alive", b""}
    assert between.startswith(b"1\n\n: keep-alive\n\n")
    assert after == b"2\n\ndata: [DONE]\n\n"


@pytest.mark.parametrize("target", TARGETS)
async def test_a_stream_that_talks_says_nothing_beside(target: bytes) -> None:
    async def chunks(wire: Any) -> AsyncIterator[list[bytes]]:
        yield [b"0"]
        for number in range(1, 12):
            await asyncio.sleep(SILENCE_S / 8)
            # As a run's own text goes, where the server lets it pass by the application.
            if wire is None or not wire.write_now(b"data: %d\n\n" % number):
                yield [b"%d" % number]

    _, body = await streamed(app_of(chunks), target)

    told = b"".join(b"data: %d\n\n" % number for number in range(12))
    assert body == told + b"data: [DONE]\n\n"


@pytest.mark.parametrize("target", TARGETS)
async def test_a_failure_before_the_first_silence_has_a_status_and_a_later_one_is_an_event(
    target: bytes,
) -> None:
    def failing(after_s: float) -> Chunks:
        async def chunks(_wire: Any) -> AsyncIterator[list[bytes]]:
            await asyncio.sleep(after_s)
            raise NoReplica("Nobody is there.")
            yield []

        return chunks

    failures: list[BaseException] = []
    async with served(app_of(failing(SILENCE_S / 8), failures)) as (reader, writer):
        writer.write(request(b"{}", target=target))
        assert (await head_of(reader)).startswith(b"HTTP/1.1 503")
    assert len(failures) == 1

    head, body = await streamed(app_of(failing(1.5 * SILENCE_S), failures), target)
    assert head.startswith(b"HTTP/1.1 200")
    assert body.startswith(b": keep-alive\n\ndata: ") and b"Nobody is there." in body
    assert body.endswith(b"data: [DONE]\n\n")
    assert len(failures) == 1
