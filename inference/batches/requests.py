"""A line of an input file: where it ends, what it must be, and what is wrong with it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

MOST_CUSTOM_ID_CHARACTERS = 256
# Beside the body, which has a bound of its own.
MOST_FRAME_BYTES = 2_048
# An estimate, because a batch is counted before its model's tokenizer reads it.
BYTES_A_TOKEN = 4


class RawLine(NamedTuple):
    number: int  # from 1
    offset: int
    content: bytes | None  # None: longer than allowed, and not kept
    length: int


def split_lines(chunks: Iterable[bytes], most_bytes: int) -> Iterator[RawLine]:
    """The lines of a file with their places; blank ones are counted and not given.

    Never holds more than one line of ``most_bytes`` beside a chunk.
    """
    number, offset, length, kept = 1, 0, 0, bytearray()
    for chunk in chunks:
        start = 0
        while (end := chunk.find(b"\n", start)) >= 0:
            length += end - start
            kept += chunk[start : min(end, start + most_bytes + 1 - len(kept))]
            if line := _line(number, offset, length, kept, most_bytes):
                yield line
            number, offset, length = number + 1, offset + length + 1, 0
            kept.clear()
            start = end + 1
        length += len(chunk) - start
        kept += chunk[start : start + max(0, most_bytes + 1 - len(kept))]
    if line := _line(number, offset, length, kept, most_bytes):
        yield line


def _line(
    number: int, offset: int, length: int, kept: bytearray, most_bytes: int
) -> RawLine | None:
    if length > most_bytes:
        return RawLine(number, offset, None, length)
    content = bytes(kept)
    return RawLine(number, offset, content, length) if content.strip() else None


class BatchRequest(msgspec.Struct, frozen=True):
    """A line as clients write it."""

    custom_id: str
    method: str
    url: str
    body: msgspec.Raw


class _Head(msgspec.Struct, frozen=True):
    """What every body must say, and what none may."""

    model: str
    stream: bool | None = None


decode_request = msgspec.json.Decoder(BatchRequest).decode
_decode_head = msgspec.json.Decoder(_Head).decode
_decode_any = msgspec.json.Decoder().decode


@dataclass(frozen=True)
class Fault:
    """One entry of a batch's ``errors``."""

    code: str
    message: str
    param: str | None = None
    line: int | None = None

    def told(self) -> dict[str, Any]:
        return {
            "code": self.code,
            "message": self.message,
            "param": self.param,
            "line": self.line,
        }


@dataclass(frozen=True, slots=True)
class Checked:
    custom_id: str
    model: str
    tokens: int  # estimated


def check_line(line: RawLine, endpoint: str, most_bytes: int) -> Checked | Fault:
    """What a line asks for, or the first thing that is wrong with it."""
    if line.content is None:
        message = f"This line has {line.length} bytes; at most {most_bytes} are allowed."
        return Fault("line_too_long", message, None, line.number)
    try:
        request = decode_request(line.content)
        head = _decode_head(request.body)
        # All of it once: what is skipped here would otherwise be found broken when it runs.
        _decode_any(request.body)
    except msgspec.ValidationError as error:
        return Fault("invalid_request", f"{error}.", None, line.number)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Fault("invalid_json_line", "This line is not valid JSON.", None, line.number)
    return _check_fields(request, head, endpoint, line.number) or Checked(
        request.custom_id, head.model, len(bytes(request.body)) // BYTES_A_TOKEN
    )


def _check_fields(request: BatchRequest, head: _Head, endpoint: str, number: int) -> Fault | None:
    if not 0 < len(request.custom_id) <= MOST_CUSTOM_ID_CHARACTERS or "\0" in request.custom_id:
        message = f"A custom_id has 1 to {MOST_CUSTOM_ID_CHARACTERS} characters and no NUL."
        return Fault("invalid_custom_id", message, "custom_id", number)
    if request.method != "POST":
        return Fault("invalid_method", "The method is POST.", "method", number)
    if request.url != endpoint:
        message = f"The batch's endpoint is {endpoint}; this line's url must be the same."
        return Fault("invalid_url", message, "url", number)
    if not 0 < len(head.model) <= 200:
        return Fault("missing_required_parameter", "Name a model.", "body.model", number)
    if head.stream:
        message = "An answer in a file cannot be streamed."
        return Fault("invalid_request", message, "body.stream", number)
    return None
