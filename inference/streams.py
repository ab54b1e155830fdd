"""Reading Redis streams, typed as we use them: byte ids, byte fields."""

from __future__ import annotations

from typing import Any, cast

import redis
import redis.asyncio

Message = tuple[bytes, dict[bytes, bytes]]


async def read_after(
    client: redis.asyncio.Redis, stream: str, position: bytes | str, *, block_ms: int, count: int
) -> list[Message]:
    """Messages after ``position``, waiting up to ``block_ms`` for the first.

    The client's socket timeout must be longer than ``block_ms``. Raises RedisError.
    """
    answer: Any = await client.xread({stream: position}, block=block_ms, count=count)
    # RESP2 answers a list of (stream, messages), RESP3 a mapping of stream to [messages].
    if not answer:
        return []
    if isinstance(answer, dict):
        return cast(list[Message], next(iter(answer.values()))[0])
    return cast(list[Message], answer[0][1])


async def read_all(client: redis.asyncio.Redis, stream: str) -> list[Message]:
    """Everything in a (bounded) stream, a thousand messages a round trip."""
    found: list[Message] = []
    position = "-"
    while messages := cast(list[Message], await client.xrange(stream, min=position, count=1000)):
        found += messages
        position = "(" + messages[-1][0].decode()
    return found


def read_since(client: redis.Redis, stream: str, since_ms: int) -> list[Message]:
    """Messages of a (bounded) stream from a Unix time in milliseconds on; synchronous."""
    return cast(list[Message], client.xrange(stream, min=f"{since_ms}-0"))


def written_at(message_id: bytes) -> float:
    """Unix seconds, of Redis's clock, at which a message was written."""
    return int(message_id.split(b"-")[0]) / 1000
