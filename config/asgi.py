"""The web process: token path, WebSocket and Django, with one gateway among them."""

from __future__ import annotations

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

from django.core.asgi import get_asgi_application

from config.settings import refuse_owner_in_web_process

refuse_owner_in_web_process()
django_application = get_asgi_application()

import config.celery  # noqa: F401 - makes the Celery app current, for the dispatcher
from api.asgi import is_management_path, is_token_path, token_path
from api.gateway import Gateway, start_gateway
from api.http import Receive, Scope, Send
from api.management.edge import bounded
from api.stream.consumer import stream_socket
from portal.edge import bounded_pages
from portal.live_urls import sockets


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        if is_token_path(scope["path"]):
            await token_path(scope, receive, send)
        elif is_management_path(scope["path"]):
            await bounded(django_application, scope, receive, send)
        else:
            await bounded_pages(django_application, scope, receive, send)
    elif scope["type"] == "websocket":
        await _websocket(scope, receive, send)
    elif scope["type"] == "lifespan":
        await _lifespan(receive, send)


async def _websocket(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["path"] == "/v1/stream":
        await stream_socket(scope, receive, send)
    else:
        await sockets(scope, receive, send)  # type: ignore[arg-type]


async def _lifespan(receive: Receive, send: Send) -> None:
    gateway: Gateway | None = None
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            try:
                gateway = await start_gateway()
            except Exception as error:  # the server must hear of it, and end
                await send({"type": "lifespan.startup.failed", "message": repr(error)})
                raise
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            if gateway is not None:
                await gateway.stop()
            await send({"type": "lifespan.shutdown.complete"})
            return
