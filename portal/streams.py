"""Downloads of any length with bounded memory, under ASGI and in tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from itertools import islice

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, StreamingHttpResponse
from django.utils.http import content_disposition_header

from tenants import scope

LINES_A_CHUNK = 200


def stream_pieces(
    request: HttpRequest, pieces: Iterator[bytes], size: int, filename: str
) -> StreamingHttpResponse:
    """A stored file. Its first piece is read now, so that a store that is away raises here."""
    first = next(pieces, b"")

    def next_piece() -> bytes:
        return next(pieces, b"")

    def whole() -> Iterator[bytes]:
        yield first
        yield from pieces

    async def async_whole() -> AsyncIterator[bytes]:
        piece = first
        while piece:
            yield piece
            piece = await sync_to_async(next_piece)()

    is_async = isinstance(request, ASGIRequest)
    response = StreamingHttpResponse(
        async_whole() if is_async else whole(), content_type="application/octet-stream"
    )
    response.headers["Content-Disposition"] = content_disposition_header(True, filename) or ""
    response.headers["Content-Length"] = str(size)
    return response


def stream_lines(
    request: HttpRequest, organization: int, lines: Iterator[str], content_type: str, filename: str
) -> StreamingHttpResponse:
    """``lines`` as a file. They are read while the client does, after the view has returned,
    so the organization's scope is entered around each chunk.
    """

    def next_chunk() -> bytes:
        with scope.for_organization(organization):
            return "".join(islice(lines, LINES_A_CHUNK)).encode()

    def chunks() -> Iterator[bytes]:
        while chunk := next_chunk():
            yield chunk

    async def async_chunks() -> AsyncIterator[bytes]:
        # Django would collect all of a synchronous iterator before it sends anything.
        while chunk := await sync_to_async(next_chunk)():
            yield chunk

    is_async = isinstance(request, ASGIRequest)
    response = StreamingHttpResponse(
        async_chunks() if is_async else chunks(), content_type=content_type
    )
    response.headers["Content-Disposition"] = f'attachment; filename="{filename}"'
    return response
