"""``POST /v1/files``: from the socket to the object store in pieces, never a whole file."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial

import msgspec
from django.conf import settings
from django.utils import timezone

from api.errors import malformed
from api.files.form import UploadForm
from api.files.wire import UploadFields, file_object
from api.http import Request, Response, UnsupportedContentType, slow_body
from api.resources import Caller, answered
from inference.errors import InvalidRequest, NoReplica
from inference.files import actions
from inference.files.models import File
from inference.objects import ObjectWriter, object_store
from tenants.models import ApiKey, Project

# Enough for a write to be worth its thread.
WRITTEN_AT_ONCE = 256 * 1024
# Beside the file: boundaries, headers and the other fields.
FORM_BYTES = 64 * 1024
_receiving = 0


async def create_file(caller: Caller, request: Request) -> Response:
    form = form_of(request, "file")
    most = settings.MAX_FILE_BYTES
    reserved = declared_bytes(request, most, actions.too_large)
    with receiving():
        file = await caller.work(_begin, reserved)
        return answered(file_object(await _receive(caller, request, form, file, most)))


@contextmanager
def receiving() -> Iterator[None]:
    """One of the files, and parts of files, that this process works on at once."""
    global _receiving  # noqa: PLW0603 - one bound a process
    if _receiving >= settings.MAX_UPLOADS:
        raise NoReplica("This server receives as many files as it can. Try again shortly.")
    _receiving += 1
    try:
        yield
    finally:
        _receiving -= 1


def form_of(request: Request, file_field: str) -> UploadForm:
    if request.header(b"content-encoding") not in (None, b"", b"identity"):
        raise UnsupportedContentType("Send the body as it is, without a Content-Encoding.")
    return UploadForm(request.header(b"content-type") or b"", file_field)


def declared_bytes(request: Request, most: int, too_large: Callable[[], InvalidRequest]) -> int:
    """The most that the file can be, which is held for it until it is there."""
    declared = request.header(b"content-length")
    if declared is None or not declared.isdigit():
        return most
    size = int(declared[:20])
    if size > most + FORM_BYTES:
        raise too_large()
    return min(size, most)


def _begin(project: Project, key: ApiKey, reserved: int) -> File:
    return actions.begin_file(
        project, reserved_bytes=reserved, api_key=key, purpose=File.Purpose.BATCH
    )


async def _receive(
    caller: Caller, request: Request, form: UploadForm, file: File, most: int
) -> File:
    writer: ObjectWriter | None = None
    try:
        writer = await asyncio.to_thread(partial(object_store().writer, file.object_key))
        stored = Stored(writer, most, actions.too_large)
        await copy(request, form, stored)
        fields = _fields_of(form)
        await stored.end()
        return await caller.work(_finish, file, form.filename, stored, fields)
    except BaseException:
        # In a task of its own: the client may be gone, and this handler cancelled.
        await asyncio.shield(asyncio.ensure_future(_give_up(caller, file, writer)))
        raise


async def copy(request: Request, form: UploadForm, stored: Stored) -> None:
    """The form's file, as it arrives, to where it is stored."""
    deadline = time.monotonic() + settings.UPLOAD_TIMEOUT_S
    received = 0
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            raise slow_body()
        message = await request.next_part(min(left, settings.BODY_TIMEOUT_S))
        part = message.get("body", b"")
        received += len(part)
        if received > stored.most + FORM_BYTES:
            raise stored.too_large()
        await stored.take(form.feed(part))
        if not message.get("more_body"):
            break
    if form.filename is None:
        name = form.file_field
        raise InvalidRequest(f"Missing required parameter: '{name}'.", param=name)
    if not form.is_whole:
        raise InvalidRequest("The form ends in the middle.", param=form.file_field)
    if not stored.size + len(stored.waiting):
        raise InvalidRequest("The file is empty.", param=form.file_field)


def _fields_of(form: UploadForm) -> UploadFields:
    try:
        fields = msgspec.convert(form.nested_fields(), UploadFields, strict=False)
    except msgspec.ValidationError as error:
        raise malformed(error) from None
    check_purpose(fields.purpose)
    return fields


def check_purpose(purpose: str) -> None:
    if purpose != File.Purpose.BATCH:
        raise InvalidRequest(
            f"The purpose {purpose[:40]!r} is not supported by this server; "
            "files are for batches: 'batch'.",
            param="purpose",
        )


class Stored:
    """What was written, at most ``most`` bytes, counted and hashed; one write at a time."""

    def __init__(self, writer: ObjectWriter, most: int, too_large: Callable[[], InvalidRequest]):
        self.most = most
        self.too_large = too_large
        self._writer = writer
        self._digest = hashlib.sha256()
        self.waiting = bytearray()
        self.size = 0

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    async def take(self, data: bytes) -> None:
        self.waiting += data
        if self.size + len(self.waiting) > self.most:
            raise self.too_large()
        if len(self.waiting) >= WRITTEN_AT_ONCE:
            await asyncio.to_thread(self._write)

    async def end(self) -> None:
        await asyncio.to_thread(self._write)
        await asyncio.to_thread(self._writer.commit)

    def _write(self) -> None:
        data = bytes(self.waiting)
        self.waiting.clear()
        self.size += len(data)
        self._digest.update(data)
        self._writer.write(data)


def _finish(
    project: Project,
    key: ApiKey,
    file: File,
    filename: str,
    stored: Stored,
    fields: UploadFields,
) -> File:
    asked = fields.expires_after
    kept_for = actions.KEPT_FOR if asked is None else timedelta(seconds=asked.seconds)
    finished = actions.finish_file(
        file,
        filename=filename,
        size=stored.size,
        sha256=stored.sha256,
        expires_at=timezone.now() + kept_for,
        acting_user=None,
    )
    finished.refresh_from_db(fields=["created_at", "expires_at"])
    return finished


async def _give_up(caller: Caller, file: File, writer: ObjectWriter | None) -> None:
    if writer is not None:
        await asyncio.to_thread(writer.abort)
    await caller.work(lambda project, key: actions.give_up_file(file))
