"""Following NOTIFY channels, over connections beside Django's."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
from django.conf import settings
from django.db import Error as DatabaseError

from tenants.scope import Login

log = logging.getLogger(__name__)

LISTENER_BACKOFF_S = (0.1, 5.0)


async def listen(
    channel: str,
    on_notice: Callable[[str], object],
    on_connected: Callable[[bool], object] = lambda _connected: None,
) -> None:
    """LISTEN on a PostgreSQL channel for ever, reconnecting with capped, jittered back-off."""
    delay = LISTENER_BACKOFF_S[0]
    while True:
        try:
            async with await psycopg.AsyncConnection.connect(
                **listener_parameters(), autocommit=True
            ) as listener:
                await listener.execute(f'LISTEN "{channel}"')
                on_connected(True)
                delay = LISTENER_BACKOFF_S[0]
                async for notice in listener.notifies():
                    on_notice(notice.payload)
        except (psycopg.Error, OSError) as error:
            log.warning("listener.lost", extra={"channel": channel, "error": repr(error)})
        on_connected(False)
        await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311
        delay = min(delay * 2, LISTENER_BACKOFF_S[1])


async def keep_fresh(
    channel: str, refresh: Callable[[], Awaitable[None]], *, every_s: float
) -> None:
    """Call ``refresh`` on each notice, when listening begins or ends, and ``every_s`` seconds.

    The last is a bound for what no notice tells. What ``refresh`` could not read it reads
    next time. For ever; cancel to stop.
    """
    changed = asyncio.Event()
    listener = asyncio.create_task(
        listen(channel, lambda _: changed.set(), lambda _: changed.set())
    )
    try:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(every_s):
                    await changed.wait()
            changed.clear()
            try:
                await refresh()
            except (DatabaseError, psycopg.Error, OSError) as error:
                log.warning("refresh.failed", extra={"channel": channel, "error": repr(error)})
    finally:
        listener.cancel()


def listener_parameters() -> dict[str, Any]:
    """What psycopg connects with: the login of this process that may do the least.

    LISTEN needs no right on any table, and notices name rows and show none.
    """
    database: dict[str, Any] = settings.DATABASES["default"]
    logins: dict[str, dict[str, str]] = database.get("LOGINS", {})
    least = next((logins[role] for role in (Login.WEB, Login.STAFF) if role in logins), {})
    parameters = {
        "dbname": database["NAME"],
        "user": database["USER"],
        "password": database["PASSWORD"],
        "host": database["HOST"],
        "port": database["PORT"],
        "connect_timeout": int(settings.DATABASE_TIMEOUT_S) or 1,
        # A cut network must show as a lost connection within seconds.
        "keepalives_idle": 2,
        "keepalives_interval": 1,
        "keepalives_count": 3,
    }
    return {name: value for name, value in (parameters | least).items() if value not in ("", None)}
