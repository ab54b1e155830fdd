"""The frames of the way around Redis, which gateways and workers take while it is away.

A length of four bytes, then MessagePack ``(kind, payload)``. From a gateway ``hello``
(first: the replica's token, and who it is), ``held`` (what it believes the replica to
hold), ``work`` (submissions), ``abort``, ``bye``; from a worker ``deltas``, ``beat`` (a
heartbeat), ``unknown`` (of what was believed, what it never had) and ``bye``. The values are those of
``wire``, which offsets and attempts keep exact by whichever way they come.
"""

from __future__ import annotations

import asyncio

import msgspec

from inference import wire

# A batch of the longest prompts; whoever says more is no replica or gateway of ours.
MOST_FRAME_BYTES = 64 * 1024 * 1024
# More than this unread, and the line is given up: its reader stands still.
MOST_UNSENT_BYTES = 16 * 1024 * 1024
_LENGTH_BYTES = 4
_decode = msgspec.msgpack.Decoder(tuple[str, bytes]).decode


class Hello(msgspec.Struct, frozen=True, array_like=True):
    """Who comes; only who has read the replica's heartbeats in Redis knows its token."""

    token: str
    gateway: str


decode_hello = msgspec.msgpack.Decoder(Hello).decode


def frame(kind: str, payload: bytes = b"") -> bytes:
    content = wire.encode((kind, payload))
    return len(content).to_bytes(_LENGTH_BYTES, "big") + content


async def read_frame(reader: asyncio.StreamReader) -> tuple[str, bytes]:
    """The next frame. Raises EOFError (also in the midst of one), OSError, or ValueError
    (msgspec's errors are) for what is none."""
    length = int.from_bytes(await reader.readexactly(_LENGTH_BYTES), "big")
    if length > MOST_FRAME_BYTES:
        raise ValueError("A frame is longer than any of ours.")
    return _decode(await reader.readexactly(length))


def send(writer: asyncio.StreamWriter, content: bytes) -> bool:
    """Write without waiting; False, and the end of the line, when its reader stands still."""
    if writer.is_closing():
        return False
    if writer.transport.get_write_buffer_size() > MOST_UNSENT_BYTES:
        writer.transport.abort()
        return False
    writer.write(content)
    return True
