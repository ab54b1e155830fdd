"""An OpenAI-compatible upstream that answers at once: one raw ASGI callable.

The peer's proxy gets it as its model, so that what is measured is the proxy; asked
directly it is the floor that any ASGI application on uvicorn stands on::

    uvicorn benchmarks.instant_upstream:application --loop uvloop --http httptools
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

COMPLETION_TOKENS = 16
_BODY = json.dumps(
    {
        "id": "chatcmpl-instant",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "instant",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": " simulated text" * 8},
                "finish_reason": "length",
            }
        ],
        "usage": {
            "prompt_tokens": 12,
            "completion_tokens": COMPLETION_TOKENS,
            "total_tokens": 12 + COMPLETION_TOKENS,
        },
    }
).encode()
_START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(_BODY)).encode()),
    ],
}
_END = {"type": "http.response.body", "body": _BODY}


async def application(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """The same completion to every request, once its body has arrived."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    await send(_START)
    await send(_END)
