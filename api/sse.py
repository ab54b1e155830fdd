"""Server-sent events, pure. A frame is ``data: <json>`` and a blank line (WHATWG HTML, 9.2)."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

_to_json = msgspec.json.Encoder().encode

DONE = b"data: [DONE]\n\n"
# A comment, after a silence of this length: proxies end what says nothing for a minute.
KEEP_ALIVE = b": keep-alive\n\n"
KEEP_ALIVE_S = 15.0


def frame(data: bytes) -> bytes:
    """``data`` has no line break (JSON never has)."""
    return b"data: " + data + b"\n\n"


_TYPE = b'{"type":"'


def event_frame(data: bytes) -> bytes:
    """A frame whose ``event`` is the object's ``type``, with which it begins."""
    begin = len(_TYPE)
    assert data.startswith(_TYPE)
    return b"event: %b\ndata: %b\n\n" % (data[begin : data.index(b'"', begin)], data)


def text_writer(
    write: Callable[[bytes], bool],
    chunk: bytes,
    mark: bytes,
    framed: Callable[[bytes], bytes] = frame,
) -> Callable[[str], bool]:
    """Writes texts as frames that are ``chunk`` with the text, as JSON, in place of ``mark``."""
    before, after = framed(chunk).split(mark)

    def write_text(text: str) -> bool:
        return write(before + _to_json(text) + after)

    return write_text
