"""What a process that nobody calls does over and over."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, TypeVar

from django.db import DatabaseError, connection
from redis.exceptions import RedisError

from inference.errors import InferenceError

log = logging.getLogger(__name__)

T = TypeVar("T")
AFTER_ERROR_S = 1.0


async def for_ever(action: Callable[[], Any], every_s: float) -> None:
    while True:
        try:
            await action()
            await asyncio.sleep(every_s)
        except (DatabaseError, InferenceError, RedisError, OSError) as error:
            log.warning("batches.interrupted", extra={"error": repr(error)})
            await asyncio.sleep(AFTER_ERROR_S)
        except Exception:
            # The edge of a loop, which must not die of one turn.
            log.exception("batches.loop_broke")
            await asyncio.sleep(AFTER_ERROR_S)


def closing(action: Callable[..., T], *arguments: Any) -> T:
    """In a thread: the connection goes back to the pool."""
    try:
        return action(*arguments)
    finally:
        connection.close()


async def in_thread(action: Callable[..., T], *arguments: Any) -> T:
    return await asyncio.to_thread(closing, action, *arguments)
