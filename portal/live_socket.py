"""The socket of the panel of live requests: ``/o/<organization>/live/``.

For a session that may read the organization's usage, from our own pages only. Server to client,
JSON text frames; the client sends nothing::

    {"type": "hello", "sequence": 7, "running": 2}      what the socket begins at
    {"type": "rows", "before": 7, "sequence": 9, "running": 1, "html": "<tr>…"}

``sequence`` counts the times that the organization's usage was recorded while watched. A client
that does not stand at ``before`` (or at the hello's) missed something and reads the panel anew.
At most one frame each ``EVERY_S``; ``running`` alone is told as often as it changes. Closing: 4403
whoever may not look (any more), 4503 Redis does not answer, 1013 too many sockets here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

import redis
import redis.asyncio
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from django.conf import settings
from django.contrib import auth
from django.core.handlers.asgi import ASGIRequest
from django.utils import timezone, translation

from billing import live
from billing.models import UsageEvent
from portal import second_factor
from portal.live import ask, read, render_rows
from portal.preferences import language_of, zone_of
from tenants import access, scope
from tenants.errors import TenantError
from tenants.limit_use import has_limits
from tenants.models import Organization, User

log = logging.getLogger(__name__)

REFUSED_CLOSE = 4403
AWAY_CLOSE = 4503
FULL_CLOSE = 1013
FAILED_CLOSE = 1011
EVERY_S = 0.25
# A lost wake-up is made good after so long; the requests in flight are looked at as often.
LOOK_S = 1.0
# Whoever was removed, logged out or lost the permission looks on for so long at most.
CHECKED_EVERY_S = 15.0
# Of this process: each costs a connection to Redis and, while requests end, a query a look.
MOST_SOCKETS = 200
_open: set[int] = set()


@dataclass(frozen=True)
class Viewer:
    organization: Organization
    language: str
    zone: str
    counts_running: bool


class LivePanel(AsyncJsonWebsocketConsumer):
    """One open panel. What it was told, and what it looks at in Redis, lies here."""

    _looking: asyncio.Task[None] | None = None
    _is_grouped = False

    async def connect(self) -> None:
        viewer = await _viewer_of(self.scope) if _is_our_page(self.scope) else None
        if viewer is None:
            await self.close(REFUSED_CLOSE)
        elif len(_open) >= MOST_SOCKETS:
            await self.close(FULL_CLOSE)
        else:
            _open.add(id(self))
            self._wake = asyncio.Event()
            await self.accept()
            self._looking = asyncio.create_task(self._look(viewer))

    async def disconnect(self, code: int) -> None:
        _open.discard(id(self))
        if self._looking is not None:
            self._looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._looking

    async def receive(self, *args: Any, **kwargs: Any) -> None:
        """Nothing that a client says means anything here."""

    async def usage_recorded(self, event: dict[str, Any]) -> None:
        """The channel layer's message (``billing.live``)."""
        self._wake.set()

    async def _look(self, viewer: Viewer) -> None:
        group = live.group_of(viewer.organization.pk)
        client = redis.asyncio.Redis.from_url(
            settings.REDIS_URL,
            socket_timeout=settings.REDIS_TIMEOUT_S,
            socket_connect_timeout=settings.REDIS_TIMEOUT_S,
        )
        try:
            await self.channel_layer.group_add(group, self.channel_name)
            await self._tell(client, viewer)
        except (redis.RedisError, OSError):
            await self._hang_up(AWAY_CLOSE)
        except Exception:  # the edge of this socket: the page reconnects
            log.exception("live.failed")
            await self._hang_up(FAILED_CLOSE)
        finally:
            _open.discard(id(self))
            with contextlib.suppress(redis.RedisError, OSError):
                await self.channel_layer.group_discard(group, self.channel_name)
            with contextlib.suppress(redis.RedisError, OSError):
                await client.aclose()

    async def _hang_up(self, code: int) -> None:
        # Whoever went away meanwhile cannot be told.
        with contextlib.suppress(RuntimeError, OSError):
            await self.close(code)

    async def _tell(self, client: redis.asyncio.Redis, viewer: Viewer) -> None:
        """Until the viewer may not look any more, or whoever cancels."""
        _, seen = await _recorded(viewer.organization, 0)
        sequence, running = await _read(client, viewer)
        await self.send_json({"type": "hello", "sequence": sequence, "running": running})
        checked_at = time.monotonic()
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), LOOK_S)
            self._wake.clear()
            if time.monotonic() - checked_at >= CHECKED_EVERY_S:
                if await _viewer_of(self.scope) is None:
                    await self.close(REFUSED_CLOSE)
                    return
                checked_at = time.monotonic()
            before, was_running = sequence, running
            sequence, running = await _read(client, viewer)
            if (sequence, running) != (before, was_running):
                rows: list[UsageEvent] = []
                if sequence != before:
                    rows, seen = await _recorded(viewer.organization, seen)
                html = await _render(viewer, rows)
                await self.send_json({"type": "rows", "before": before, "sequence": sequence,
                                      "running": running, "html": html})  # fmt: skip
            await asyncio.sleep(EVERY_S)


async def _read(client: redis.asyncio.Redis, viewer: Viewer) -> tuple[int, int | None]:
    async with client.pipeline(transaction=False) as pipe:
        ask(pipe, viewer.organization.pk)
        _, *answers = await pipe.execute()
    return read(answers, viewer.counts_running)


async def _recorded(organization: Organization, seen: int) -> tuple[list[UsageEvent], int]:
    def read_rows() -> tuple[list[UsageEvent], int]:
        with scope.for_organization(organization.pk):
            return live.recorded_after(organization, seen)

    return await database_sync_to_async(read_rows, thread_sensitive=False)()


async def _render(viewer: Viewer, rows: list[UsageEvent]) -> str:
    with translation.override(viewer.language), timezone.override(viewer.zone):
        return render_rows(viewer.organization, rows)


def _is_our_page(connection: dict[str, Any]) -> bool:
    """Browsers say where a page is from; another site's must not read with our visitor's cookie."""
    headers = dict(connection["headers"])
    origin = urlsplit(headers.get(b"origin", b"").decode("latin-1").lower())
    hosts = {headers.get(b"host", b"").decode("latin-1").lower(),
             urlsplit(settings.SLUICE_URL).netloc.lower()}  # fmt: skip
    return bool(origin.netloc) and origin.netloc in hosts


async def _viewer_of(connection: dict[str, Any]) -> Viewer | None:
    """Who looks, asked of the session anew; None for whoever gets a 404 from the pages, too."""
    return await database_sync_to_async(_viewer, thread_sensitive=False)(connection)


def _viewer(connection: dict[str, Any]) -> Viewer | None:
    request = ASGIRequest({**connection, "method": "GET"}, None)  # type: ignore[arg-type]
    store = import_module(settings.SESSION_ENGINE).SessionStore
    request.session = store(request.COOKIES.get(settings.SESSION_COOKIE_NAME))
    user = auth.get_user(request)
    if not isinstance(user, User):
        return None
    request.user = user
    name = connection["url_route"]["kwargs"]["organization_id"]
    try:
        with scope.for_user(user.pk):
            organization = access.access_membership(user, name, "usage.read").organization
            if second_factor.is_missing(request, organization):
                return None
    except TenantError:
        return None
    return Viewer(organization, language_of(request), zone_of(request), has_limits(organization))
