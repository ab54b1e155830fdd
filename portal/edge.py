"""The outer edge of pages: Django stores a whole body before any view may refuse it.

So what is too large or too slow is refused here, while it arrives.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

from django.conf import settings

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

_UPLOAD = re.compile(r"/o/[^/]{1,64}/files/upload/")
# Beside the file: boundaries, headers and the other fields.
FORM_BYTES = 64 * 1024
_REFUSALS = {
    408: "Request Timeout: what was sent did not arrive in time.",
    413: "Content Too Large: what was sent is larger than this page takes.",
}


class _Refused(Exception):
    def __init__(self, status: int):
        super().__init__(status)
        self.status = status


async def bounded_pages(
    application: Any, scope: dict[str, Any], receive: Receive, send: Send
) -> None:
    """``application`` with bodies of at most MAX_BODY_BYTES within BODY_TIMEOUT_S; where files are
    uploaded, of MAX_FILE_BYTES within UPLOAD_TIMEOUT_S."""
    most, within_s = _bounds_of(scope["path"])
    size, is_whole = 0, False
    deadline = asyncio.get_running_loop().time() + within_s

    async def counted() -> dict[str, Any]:
        nonlocal size, is_whole
        try:
            async with asyncio.timeout_at(None if is_whole else deadline):
                message = await receive()
        except TimeoutError:
            raise _Refused(408) from None
        size += len(message.get("body", b""))
        is_whole = not message.get("more_body")
        if size > most:
            raise _Refused(413)
        return message

    try:
        if _declared(scope) > most:
            raise _Refused(413)
        await application(scope, counted, send)
    except _Refused as refused:
        await _respond(refused.status, send)


def _bounds_of(path: str) -> tuple[int, float]:
    if _UPLOAD.fullmatch(path):
        return settings.MAX_FILE_BYTES + FORM_BYTES, settings.UPLOAD_TIMEOUT_S
    return settings.MAX_BODY_BYTES, settings.BODY_TIMEOUT_S


def _declared(scope: dict[str, Any]) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value[:20])
    return 0


async def _respond(status: int, send: Send) -> None:
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-security-policy", b"default-src 'none'"),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": _REFUSALS[status].encode()})
