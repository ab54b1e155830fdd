"""An upload's ``multipart/form-data`` as it arrives: small fields kept, the file passed on.

Nothing is unpacked: a part that says it is encoded is refused, so a bomb stays its own size.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from api.http import UnsupportedContentType
from inference.errors import InvalidRequest

MOST_FIELDS = 8
MOST_FIELD_BYTES = 1_024
MOST_FILENAME_CHARACTERS = 255


@dataclass
class _Part:
    headers: dict[bytes, bytes] = field(default_factory=dict)
    name: str = ""
    is_file: bool = False
    value: bytearray = field(default_factory=bytearray)


class UploadForm:
    """``feed`` returns the bytes of the file that came; ``fields`` and ``filename`` fill up."""

    def __init__(self, content_type: bytes, file_field: str = "file"):
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if kind != b"multipart/form-data" or not boundary:
            raise UnsupportedContentType(
                "Send the file as multipart/form-data with a boundary, as OpenAI's clients do."
            )
        if len(boundary) > 70:  # RFC 2046, 5.1.1
            raise InvalidRequest("A boundary has at most 70 characters.")
        self.fields: dict[str, str] = {}
        self.filename: str | None = None  # None: no file came yet
        self.is_whole = False
        self.file_field = file_field
        self._part = _Part()
        self._header = (bytearray(), bytearray())
        self._file_data: list[bytes] = []
        self._count = 0
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": lambda data, a, b: self._header[0].extend(data[a:b]),
                "on_header_value": lambda data, a, b: self._header[1].extend(data[a:b]),
                "on_header_end": self._end_header,
                "on_headers_finished": self._open,
                "on_part_data": self._take,
                "on_part_end": self._close,
                "on_end": self._finish,
            },
        )

    def feed(self, data: bytes) -> bytes:
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise InvalidRequest(f"The form cannot be read: {str(error)[:200]}.") from None
        taken = b"".join(self._file_data)
        self._file_data.clear()
        return taken

    # --- What the parser tells ------------------------------------------------------------

    def _begin(self) -> None:
        self._count += 1
        if self._count > MOST_FIELDS:
            raise InvalidRequest(f"An upload has at most {MOST_FIELDS} fields.")
        self._part = _Part()

    def _end_header(self) -> None:
        name, value = self._header
        self._part.headers[bytes(name).lower()] = bytes(value)
        self._header = (bytearray(), bytearray())

    def _open(self) -> None:
        part = self._part
        _, options = parse_options_header(part.headers.get(b"content-disposition", b""))
        part.name = _text(options.get(b"name", b""), "name")
        encoding = part.headers.get(b"content-transfer-encoding", b"binary").strip().lower()
        if encoding not in (b"binary", b"8bit", b"7bit") or b"content-encoding" in part.headers:
            raise InvalidRequest("Send parts as they are, in no encoding.", param=part.name)
        part.is_file = part.name == self.file_field
        if part.is_file:
            if self.filename is not None:
                raise InvalidRequest("An upload has one file.", param=self.file_field)
            self.filename = filename_of(_text(options.get(b"filename", b""), "filename"))

    def _take(self, data: bytes, start: int, end: int) -> None:
        part = self._part
        if part.is_file:
            self._file_data.append(data[start:end])
        elif len(part.value) + end - start > MOST_FIELD_BYTES:
            message = f"'{part.name[:64]}' has at most {MOST_FIELD_BYTES} bytes."
            raise InvalidRequest(message, param=part.name[:64])
        else:
            part.value += data[start:end]

    def _close(self) -> None:
        part = self._part
        if part.is_file:
            return
        if part.name in self.fields:
            raise InvalidRequest(f"'{part.name[:64]}' came twice.", param=part.name[:64])
        self.fields[part.name] = _text(bytes(part.value), part.name[:64])

    def _finish(self) -> None:
        self.is_whole = True

    def nested_fields(self) -> dict[str, Any]:
        """``expires_after[seconds]`` is a field of ``expires_after``."""
        nested: dict[str, Any] = {}
        for name, value in self.fields.items():
            base, bracket, key = name.partition("[")
            if not bracket:
                nested[name] = value
            elif isinstance(inner := nested.setdefault(base, {}), dict):
                inner[key.removesuffix("]")] = value
        return nested


def _text(raw: bytes, param: str) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise InvalidRequest(f"'{param}' is not UTF-8.", param=param) from None


def filename_of(text: str) -> str:
    """A label for people: no path, no control character."""
    name = text.replace("\\", "/").rpartition("/")[2]
    name = "".join(character for character in name if character.isprintable())
    return name[-MOST_FILENAME_CHARACTERS:] or "upload"
