"""Server-sent events, pure. A frame is ``data: <json>`` and a blank line (WHATWG HTML, 9.2)."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

_to_json = msgspec.json.Encoder().encode

DONE = b"data: [DONE]\n\n"


def frame(data: bytes) -> bytes:
    """``data`` has no line break (JSON never has)."""
    return b"data: " + data + b"\n\n"


def text_writer(write: Callable[[bytes], bool], chunk: bytes, mark: bytes) -> Callable[[str], bool]:
    """Writes texts as frames that are ``chunk`` with the text, as JSON, in place of ``mark``."""
    before, after = frame(chunk).split(mark)

    def write_text(text: str) -> bool:
        return write(before + _to_json(text) + after)

    return write_text
