"""Files: listed, shown, downloaded, deleted."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator

from api.files.upload import create_file
from api.files.wire import DeletedFile, FileObject, ListFiles, file_object
from api.http import Headers, Request, Response
from api.resources import Caller, Page, Route, answered, page_of, query_of, route
from inference.errors import InferenceError
from inference.files import actions
from inference.files.models import File
from inference.files.selectors import access_file, get_files
from inference.objects import object_store
from tenants.models import ApiKey, Project
from tenants.pages import Cursor, list_page

_RANGE = re.compile(rb"bytes=(\d{0,18})-(\d{0,18})")


class RangeNotSatisfiable(InferenceError):
    status = 416
    code = "range_not_satisfiable"


async def list_files(caller: Caller, request: Request) -> Response:
    return answered(await caller.work(_list, query_of(request, ListFiles)))


def _list(project: Project, key: ApiKey, query: ListFiles) -> Page[FileObject]:
    among = File.objects.filter(project=project)
    rows = get_files(project)
    if query.purpose is not None:
        rows = rows.filter(purpose=query.purpose)
    cursor = Cursor(query.limit, after=query.after, is_descending=query.order == "desc")
    found = list_page(rows, cursor, among=among)
    return page_of(found, [file_object(row) for row in found.rows])


async def get_file(caller: Caller, request: Request, file_id: str) -> Response:
    return answered(file_object(await caller.work(_find, file_id)))


def _find(project: Project, key: ApiKey, file_id: str) -> File:
    return access_file(project, file_id)


async def delete_file(caller: Caller, request: Request, file_id: str) -> Response:
    await caller.work(_delete, file_id)
    return answered(DeletedFile(id=file_id))


def _delete(project: Project, key: ApiKey, file_id: str) -> None:
    actions.delete_file(access_file(project, file_id), acting_user=None)


async def get_content(caller: Caller, request: Request, file_id: str) -> Response:
    """The bytes, or the part of them that a Range header asks for."""
    file = await caller.work(_find, file_id)
    start, end = 0, file.bytes
    headers: Headers = [
        (b"content-type", b"application/octet-stream"),
        (b"content-disposition", b"attachment"),
        (b"x-content-type-options", b"nosniff"),
        (b"accept-ranges", b"bytes"),
    ]
    status = 200
    if (asked := request.header(b"range")) is not None:
        start, end = _range_of(asked, file.bytes)
        headers.append((b"content-range", b"bytes %d-%d/%d" % (start, end - 1, file.bytes)))
        status = 206
    headers.append((b"content-length", b"%d" % (end - start)))
    pieces = object_store().read(file.object_key, start, end)
    # Before the head goes out: a store that is away is an error with a status of its own.
    first = await asyncio.to_thread(next, pieces, b"")
    return Response(status, headers, stream=_stream(first, pieces))


async def _stream(first: bytes, pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    piece = first
    while piece:
        yield piece
        piece = await asyncio.to_thread(next, pieces, b"")


def _range_of(asked: bytes, size: int) -> tuple[int, int]:
    """One range, as its first byte and the byte after its last."""
    match = _RANGE.fullmatch(asked.strip())
    if match is None or not (match[1] or match[2]):
        raise RangeNotSatisfiable("Ask for one range as bytes=first-last.", param="range")
    if not match[1]:  # the last so many
        start, end = max(0, size - int(match[2])), size
    else:
        start, end = int(match[1]), min(size, int(match[2]) + 1 if match[2] else size)
    if start >= end:
        raise RangeNotSatisfiable(f"The file has {size} bytes.", param="range")
    return start, end


ROUTES: list[Route] = [
    route("POST", "/v1/files", "files.write", create_file),
    route("GET", "/v1/files", "files.read", list_files),
    route("GET", "/v1/files/{}", "files.read", get_file),
    route("DELETE", "/v1/files/{}", "files.write", delete_file),
    route("GET", "/v1/files/{}/content", "files.read", get_content),
]
