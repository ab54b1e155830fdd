"""Uploads: begun, given parts, completed, cancelled."""

from __future__ import annotations

import asyncio
from functools import partial

from api.files.form import UploadForm, filename_of
from api.files.upload import Stored, check_purpose, copy, declared_bytes, form_of, receiving
from api.http import Request, Response
from api.resources import Caller, Route, answered, body_of, route
from api.uploads.wire import CompleteUpload, CreateUpload, part_object, upload_object
from inference.errors import InvalidRequest
from inference.objects import ObjectWriter, object_store
from inference.uploads import actions
from inference.uploads.assembly import assemble
from inference.uploads.models import Upload, UploadPart
from inference.uploads.selectors import access_upload
from tenants.models import ApiKey, Project


async def create_upload(caller: Caller, request: Request) -> Response:
    body = body_of(await request.json_body(), CreateUpload)
    check_purpose(body.purpose)
    return answered(upload_object(await caller.work(_begin, body)))


def _begin(project: Project, key: ApiKey, body: CreateUpload) -> Upload:
    return actions.begin_upload(
        project,
        api_key=key,
        filename=filename_of(body.filename),
        mime_type=body.mime_type,
        purpose=body.purpose,
        size=body.bytes,
        file_kept_for_s=None if body.expires_after is None else body.expires_after.seconds,
    )


# --- Parts --------------------------------------------------------------------------------


async def add_part(caller: Caller, request: Request, upload_id: str) -> Response:
    form = form_of(request, "data")
    reserved = declared_bytes(request, actions.MOST_PART_BYTES, actions.part_too_large)
    with receiving():
        part = await caller.work(_begin_part, upload_id, reserved)
        received = await _receive(caller, request, form, part)
    return answered(part_object(received, upload_id))


def _begin_part(project: Project, key: ApiKey, upload_id: str, reserved: int) -> UploadPart:
    return actions.begin_part(access_upload(project, upload_id), reserved_bytes=reserved)


async def _receive(
    caller: Caller, request: Request, form: UploadForm, part: UploadPart
) -> UploadPart:
    writer: ObjectWriter | None = None
    try:
        writer = await asyncio.to_thread(partial(object_store().writer, part.object_key))
        stored = Stored(writer, actions.MOST_PART_BYTES, actions.part_too_large)
        await copy(request, form, stored)
        if form.fields:
            name = min(form.fields)[:64]
            raise InvalidRequest(f"A part has no '{name}'.", param=name)
        await stored.end()
        return await caller.work(_finish_part, part, stored.size)
    except BaseException:
        # In a task of its own: the client may be gone, and this handler cancelled.
        await asyncio.shield(asyncio.ensure_future(_give_up_part(caller, part, writer)))
        raise


def _finish_part(project: Project, key: ApiKey, part: UploadPart, size: int) -> UploadPart:
    return actions.finish_part(part, size=size)


async def _give_up_part(caller: Caller, part: UploadPart, writer: ObjectWriter | None) -> None:
    if writer is not None:
        await asyncio.to_thread(writer.abort)
    await asyncio.to_thread(object_store().delete, part.object_key)
    await caller.work(lambda project, key: actions.give_up_part(part))


# --- The end --------------------------------------------------------------------------------


async def complete_upload(caller: Caller, request: Request, upload_id: str) -> Response:
    body = body_of(await request.json_body(), CompleteUpload)
    with receiving():
        upload, parts = await caller.work(_begin_completion, upload_id, body.part_ids)
        if parts is not None:
            # It goes on if the client leaves: what is half written helps nobody.
            task = asyncio.create_task(_complete(caller, upload, parts, body))
            upload = await asyncio.shield(task)
    return answered(upload_object(upload))


def _begin_completion(
    project: Project, key: ApiKey, upload_id: str, part_ids: list[str]
) -> tuple[Upload, list[UploadPart] | None]:
    upload = access_upload(project, upload_id)
    parts = actions.begin_completion(upload, part_ids)
    # Complete before: read again with its file, which the event loop cannot fetch.
    return (access_upload(project, upload_id) if parts is None else upload), parts


async def _complete(
    caller: Caller, upload: Upload, parts: list[UploadPart], body: CompleteUpload
) -> Upload:
    assert upload.file is not None
    try:
        sha256 = await asyncio.to_thread(assemble, upload.file, parts, body.md5)
        return await caller.work(_finish_completion, upload, body.part_ids, sha256)
    except BaseException:
        await caller.work(lambda project, key: actions.give_back_completion(upload))
        raise


def _finish_completion(
    project: Project, key: ApiKey, upload: Upload, part_ids: list[str], sha256: str
) -> Upload:
    actions.finish_completion(upload, part_ids, sha256=sha256, acting_user=None)
    return access_upload(project, upload.public_id)


async def cancel_upload(caller: Caller, request: Request, upload_id: str) -> Response:
    return answered(upload_object(await caller.work(_cancel, upload_id)))


def _cancel(project: Project, key: ApiKey, upload_id: str) -> Upload:
    return actions.cancel_upload(access_upload(project, upload_id))


ROUTES: list[Route] = [
    route("POST", "/v1/uploads", "files.write", create_upload),
    route("POST", "/v1/uploads/{}/parts", "files.write", add_part),
    route("POST", "/v1/uploads/{}/complete", "files.write", complete_upload),
    route("POST", "/v1/uploads/{}/cancel", "files.write", cancel_upload),
]
