"""A head and its body leave in one write; nothing else is held, and nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from config.http_cork import CorkedTransport

HEAD = b"HTTP/1.1 200 OK\r\n\r\n"


class Written:
    """A transport that remembers its writes."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.is_closed = False

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    def close(self) -> None:
        self.is_closed = True

    def is_closing(self) -> bool:
        return self.is_closed


@pytest.fixture
def pair() -> Iterator[tuple[Written, CorkedTransport]]:
    below, loop = Written(), asyncio.new_event_loop()
    yield below, CorkedTransport(below, loop)  # type: ignore[arg-type]
    loop.close()


async def test_a_head_takes_its_body_along_and_chunks_go_by_themselves() -> None:
    below = Written()
    corked = CorkedTransport(below, asyncio.get_running_loop())  # type: ignore[arg-type]
    for part in (HEAD, b"body", b"chunk", b"chunk"):
        corked.write(part)
    await asyncio.sleep(0)
    assert below.writes == [HEAD + b"body", b"chunk", b"chunk"]


async def test_a_head_alone_waits_for_this_turn_only() -> None:
    below = Written()
    corked = CorkedTransport(below, asyncio.get_running_loop())  # type: ignore[arg-type]
    corked.write(HEAD)
    assert below.writes == []
    await asyncio.sleep(0)
    assert below.writes == [HEAD]


@pytest.mark.parametrize("end", ["close", "uncorked"])
def test_whatever_ends_it_writes_what_waits(
    pair: tuple[Written, CorkedTransport], end: str
) -> None:
    below, corked = pair
    corked.write(HEAD)
    getattr(corked, end)()
    assert below.writes == [HEAD] and below.is_closed == (end == "close")
    assert corked.is_closing() == below.is_closed  # the rest is the transport's own


def test_a_client_that_left_gets_nothing(pair: tuple[Written, CorkedTransport]) -> None:
    below, corked = pair
    corked.write(HEAD)
    below.is_closed = True
    corked._flush()
    assert below.writes == []
