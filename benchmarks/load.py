"""The load generator: one asyncio client, keep-alive connections, httptools.

It is the same for every server that is compared, and its own CPU is never counted
as theirs. Bounded in requests and in time; loopback only.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import httptools
import msgspec

from benchmarks.arithmetic import Outcome

# Between a run's deadline and its being cut off: the answers under way may end.
GRACE_S = 60.0
# The same where requests may have waited for the longest that a platform lets them.
ARRIVALS_GRACE_S = 240.0
_HAS_CONTENT = re.compile(rb'"(?:content|text)": ?"(?!")')
_HAS_USAGE = re.compile(rb'"usage": ?\{')


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Answer(msgspec.Struct):
    usage: _Usage | None = None


_decode = msgspec.json.Decoder(_Answer).decode


@dataclass(frozen=True, slots=True)
class Ask:
    """One request, its bytes ready to be sent."""

    content: bytes
    kind: str = "whole"  # whole, stream, or a name of the caller's
    hangs_up: bool = False  # close the connection at the first byte of the body
    label: str = ""  # the outcome will have it


def make_ask(
    url: str,
    body: object,
    key: str = "",
    *,
    kind: str = "whole",
    hangs_up: bool = False,
) -> Ask:
    """A POST of ``body`` as JSON; bytes are sent as they are."""
    parts = urlsplit(url)
    content = body if isinstance(body, bytes) else msgspec.json.encode(body)
    authorization = f"Authorization: Bearer {key}\r\n" if key else ""
    head = (
        f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n{authorization}"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return Ask(head.encode() + content, kind, hangs_up)


class _Connection(asyncio.Protocol):
    """One request at a time; ``ask`` resolves with the outcome, never with an error."""

    def __init__(self) -> None:
        self.is_open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._parser = httptools.HttpResponseParser(self)
        self._outcome: Outcome | None = None
        self.is_open = True

    def ask(self, ask: Ask) -> asyncio.Future[Outcome]:
        self._done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._outcome = Outcome(ask.kind, label=ask.label)
        self._is_stream = ask.kind == "stream"
        self._hangs_up = ask.hangs_up
        self._parts: list[bytes] = []
        self._must_close = False
        self._outcome.started_at = time.perf_counter()
        self._transport.write(ask.content)
        return self._done

    def close(self) -> None:
        if self.is_open:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._end(f"unreadable answer: {error}")
            self.close()

    def connection_lost(self, error: Exception | None) -> None:
        self.is_open = False
        self._end(f"connection lost: {error!r}")

    # --- httptools calls these -----------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"connection" and value.lower() == b"close":
            self._must_close = True

    def on_body(self, body: bytes) -> None:
        outcome = self._outcome
        if outcome is None:
            return
        self._parts.append(body)
        if outcome.first_at is None and (not self._is_stream or _HAS_CONTENT.search(body)):
            outcome.first_at = time.perf_counter()
        if self._hangs_up:
            outcome.status, outcome.has_hung_up = self._parser.get_status_code(), True
            self._end("")
            self._transport.abort()
            self.is_open = False

    def on_message_complete(self) -> None:
        if self._outcome is not None:
            self._outcome.status = self._parser.get_status_code()
            self._end("")
        if self._must_close:
            self.close()

    def _end(self, error: str) -> None:
        outcome, self._outcome = self._outcome, None
        if outcome is None:
            return
        outcome.ended_at = time.perf_counter()
        outcome.error = error
        if error:
            outcome.status = 0
        elif not outcome.has_hung_up:
            _read_usage(outcome, b"".join(self._parts))
        if not self._done.done():
            self._done.set_result(outcome)


def _read_usage(outcome: Outcome, body: bytes) -> None:
    """Token counts as the server told them; a stream tells them in one of its last frames."""
    if outcome.status >= 400:
        outcome.error = body[:300].decode(errors="replace")
        return
    frame = body
    if outcome.kind == "stream":
        frames = [f for f in body.split(b"\n\n") if _HAS_USAGE.search(f)]
        frame = frames[-1].removeprefix(b"data: ") if frames else b"{}"
        if b'"error"' in body:
            outcome.status, outcome.error = 0, body[-300:].decode(errors="replace")
    try:
        usage = _decode(frame).usage
    except msgspec.MsgspecError as error:
        outcome.status, outcome.error = 0, f"unreadable body: {error}"
        return
    if usage is not None:
        outcome.prompt_tokens = usage.prompt_tokens
        outcome.completion_tokens = usage.completion_tokens


async def run_load(
    asks: Iterator[Ask],
    url: str,
    *,
    concurrency: int,
    most_s: float,
    on_outcome: Callable[[Outcome], None] | None = None,
) -> list[Outcome]:
    """``concurrency`` clients, each with one request under way, until ``asks`` or time ends.

    With ``on_outcome`` the outcomes go there and the list stays empty.
    """
    outcomes: list[Outcome] = []
    keep = on_outcome or outcomes.append
    deadline = time.perf_counter() + most_s
    host, port = _address_of(url)

    async def client() -> None:
        connection = _Connection()
        try:
            for ask in asks:
                if time.perf_counter() >= deadline:
                    return
                if not connection.is_open:
                    connection = await _connect(host, port)
                keep(await connection.ask(ask))
        finally:
            connection.close()

    async with asyncio.timeout(most_s + GRACE_S):
        await asyncio.gather(*(client() for _ in range(concurrency)))
    return outcomes


async def run_arrivals(
    asks: Iterator[Ask], url: str, *, per_s: float, most_s: float, seed: int = 1
) -> list[Outcome]:
    """Requests at moments of their own (Poisson, ``per_s`` on average) for ``most_s`` seconds.

    Whatever became of those before: a server that falls behind is asked no less. Connections
    that are free are used again. Ends when the last answer is there.
    """
    host, port = _address_of(url)
    loop = asyncio.get_running_loop()
    moments, free = random.Random(seed), list[_Connection]()
    outcomes: list[Outcome] = []

    async def one(ask: Ask) -> None:
        while free and not free[-1].is_open:
            free.pop()
        # Opening one belongs to the request's time neither here nor in ``run_load``.
        connection = free.pop() if free else await _connect(host, port)
        outcomes.append(await connection.ask(ask))
        free.append(connection)

    begin = at = loop.time()
    async with asyncio.timeout(most_s + ARRIVALS_GRACE_S), asyncio.TaskGroup() as under_way:
        while (at := at + moments.expovariate(per_s)) < begin + most_s:
            await asyncio.sleep(at - loop.time())
            under_way.create_task(one(next(asks)))
    for connection in free:
        connection.close()
    return outcomes


async def _connect(host: str, port: int) -> _Connection:
    _, connection = await asyncio.get_running_loop().create_connection(_Connection, host, port)
    return connection


def _address_of(url: str) -> tuple[str, int]:
    host, port = urlsplit(url).hostname, urlsplit(url).port
    if host != "127.0.0.1" or port is None:
        raise ValueError(f"Load goes to 127.0.0.1 only, not to {url}.")
    return host, port
