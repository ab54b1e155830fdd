"""The outer edge of the management API: Django reads a whole body before any view may refuse it.

So what is too large or too slow is refused here, while it arrives.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

from django.conf import settings

from api.errors import ApiError, api_error
from api.http import JSON, Receive, Scope, Send
from api.management.operation import MOST_BYTES, too_large


class _Refused(Exception):
    def __init__(self, error: ApiError):
        super().__init__(error.message)
        self.error = error


async def bounded(application: Any, scope: Scope, receive: Receive, send: Send) -> None:
    """``application`` with a body of at most MOST_BYTES that arrives within BODY_TIMEOUT_S."""
    size, is_whole = 0, False
    deadline = asyncio.get_running_loop().time() + settings.BODY_TIMEOUT_S

    async def counted() -> dict[str, Any]:
        nonlocal size, is_whole
        try:
            async with asyncio.timeout_at(None if is_whole else deadline):
                message = await receive()
        except TimeoutError:
            raise _Refused(_TOO_SLOW) from None
        size += len(message.get("body", b""))
        is_whole = not message.get("more_body")
        if size > MOST_BYTES:
            raise _Refused(api_error(too_large()))
        return message

    try:
        await application(scope, counted, send)
    except _Refused as refused:
        await _respond(refused.error, send)


_TOO_SLOW = ApiError(
    408,
    "The request's body did not arrive in time.",
    "invalid_request_error",
    None,
    "request_timeout",
)


async def _respond(error: ApiError, send: Send) -> None:
    headers = [
        JSON,
        (b"x-request-id", secrets.token_hex(12).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": error.body()})
