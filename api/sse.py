"""Server-sent events, pure. A frame is ``data: <json>`` and a blank line (WHATWG HTML, 9.2)."""

from __future__ import annotations

DONE = b"data: [DONE]\n\n"


def frame(data: bytes) -> bytes:
    """``data`` has no line break (JSON never has)."""
    return b"data: " + data + b"\n\n"
