"""Sockets of the portal's pages, as an ASGI application."""

from __future__ import annotations

from typing import Any

from channels.routing import URLRouter
from django.urls import path, re_path

from portal.live_socket import LivePanel

ABSENT_CLOSE = 4404


async def _absent(_scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.close", "code": ABSENT_CLOSE})


sockets = URLRouter(
    [path("o/<str:organization_id>/live/", LivePanel.as_asgi()), re_path("", _absent)]  # type: ignore[arg-type]  # sockets are no views
)
