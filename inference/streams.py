"""Reading Redis streams, typed as we use them: byte ids, byte fields."""

from __future__ import annotations

from typing import cast

import redis

from tenants.redis_link import RedisLink

Message = tuple[bytes, dict[bytes, bytes]]


async def read_after(
    link: RedisLink, stream: str, position: bytes | str, *, block_ms: int, count: int
) -> list[Message]:
    """Messages after ``position``, waiting up to ``block_ms`` for the first.

    Nothing else gets an answer on ``link`` meanwhile, so it must be a link of its
    own, whose timeout is longer than ``block_ms``. Raises RedisError.
    """
    answer = await link.call(
        "XREAD", "COUNT", count, "BLOCK", block_ms, "STREAMS", stream, position
    )
    return _messages(answer[0][1]) if answer else []


async def read_after_each(
    link: RedisLink, positions: dict[str, bytes | str], *, block_ms: int, count: int
) -> dict[str, list[Message]]:
    """The same of several streams at once; those without news are absent."""
    answer = await link.call(
        *("XREAD", "COUNT", count, "BLOCK", block_ms, "STREAMS"), *positions, *positions.values()
    )
    return {stream.decode(): _messages(entries) for stream, entries in answer or []}


async def read_all(link: RedisLink, stream: str) -> list[Message]:
    """Everything in a (bounded) stream, a thousand messages a round trip."""
    found: list[Message] = []
    position = b"-"
    while messages := _messages(await link.call("XRANGE", stream, position, "+", "COUNT", 1000)):
        found += messages
        position = b"(" + messages[-1][0]
    return found


def read_since(client: redis.Redis, stream: str, since_ms: int) -> list[Message]:
    """Messages of a (bounded) stream from a Unix time in milliseconds on; synchronous."""
    return cast(list[Message], client.xrange(stream, min=f"{since_ms}-0"))


def written_at(message_id: bytes) -> float:
    """Unix seconds, of Redis's clock, at which a message was written."""
    return int(message_id.split(b"-")[0]) / 1000


def _messages(answer: list[list]) -> list[Message]:
    """RESP2 gives a message's fields as a flat list of names and values."""
    return [
        (message_id, dict(zip(fields[::2], fields[1::2], strict=True)))
        for message_id, fields in answer
    ]
