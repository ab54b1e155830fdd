"""The stream in which workers answer one gateway: read, trimmed, kept alive."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import msgspec
from redis.exceptions import RedisError

from inference import wire
from inference.streams import read_after
from inference.wire import Delta
from tenants.redis_link import RedisLink

log = logging.getLogger(__name__)

EXPIRY_MS = 15_000
UPKEEP_S = 1.0
MOST_READ = 200


class Mailbox:
    """``deliver`` gets every delta in its order; ``on_lost`` hears that Redis lost the stream,
    and with it, in all likelihood, queues and deltas that were on their way."""

    def __init__(
        self,
        link: RedisLink,
        reader: RedisLink,
        gateway: str,
        deliver: Callable[[Delta], None],
        on_lost: Callable[[], None],
    ):
        self._link = link
        self._reader = reader
        self._stream = wire.mailbox_of(gateway)
        self._deliver = deliver
        self._on_lost = on_lost
        self._read_to: bytes | str = "0-0"
        self._is_made = False

    async def keep(self) -> None:
        """Create the mailbox if it is not there, trim what was read, renew its expiry.

        It expires when this process dies, which tells workers to stop its requests.
        """
        await self._link.call("XTRIM", self._stream, "MINID", "~", self._read_to)
        if await self._link.call("PEXPIRE", self._stream, EXPIRY_MS):
            return
        await self._link.call("XADD", self._stream, "*", "hello", "1")
        await self._link.call("PEXPIRE", self._stream, EXPIRY_MS)
        if self._is_made:
            log.warning("mailbox.made_anew", extra={"stream": self._stream})
            self._on_lost()
        self._is_made = True

    async def keep_for_ever(self) -> None:
        while True:
            await asyncio.sleep(UPKEEP_S)
            try:
                await self.keep()
            except (RedisError, OSError, TimeoutError) as error:
                log.warning("mailbox.upkeep_failed", extra={"error": repr(error)})

    async def read_for_ever(self) -> None:
        while True:
            try:
                messages = await read_after(
                    self._reader, self._stream, self._read_to, block_ms=2000, count=MOST_READ
                )
            except (RedisError, OSError, TimeoutError) as error:
                log.warning("mailbox.lost", extra={"error": repr(error)})
                await asyncio.sleep(0.1)
                continue
            for self._read_to, fields in messages:
                for delta in _deltas_of(fields):
                    self._deliver(delta)

    async def remove(self) -> None:
        try:
            await self._link.call("DEL", self._stream)
        except (RedisError, OSError, TimeoutError):
            log.info("mailbox.left", extra={"stream": self._stream})


def _deltas_of(fields: dict[bytes, bytes]) -> list[Delta]:
    """A mailbox message's deltas; none of one that makes no sense, which is a gap to come."""
    if b"d" not in fields:
        return []
    try:
        return wire.decode_deltas(fields[b"d"])
    except msgspec.MsgspecError as error:
        log.error("mailbox.unreadable", extra={"error": repr(error)})
        return []
