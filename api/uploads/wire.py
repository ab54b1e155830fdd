"""Uploads and their parts in OpenAI's form."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from api.files.form import MOST_FILENAME_CHARACTERS
from api.files.wire import ExpiresAfter, FileObject, file_object
from inference.uploads.actions import MOST_PARTS
from inference.uploads.models import Upload, UploadPart

_PartId = Annotated[str, Meta(min_length=1, max_length=64)]


class CreateUpload(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    filename: Annotated[str, Meta(min_length=1, max_length=MOST_FILENAME_CHARACTERS)]
    purpose: str
    bytes: Annotated[int, Meta(ge=1)]
    mime_type: Annotated[str, Meta(max_length=255, pattern="^[ -~]*$")]
    expires_after: ExpiresAfter | None = None


class CompleteUpload(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    part_ids: Annotated[list[_PartId], Meta(min_length=1, max_length=MOST_PARTS)]
    md5: Annotated[str, Meta(pattern="^[0-9a-fA-F]{32}$")] | None = None


class PartFields(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part's form, for the document: it is read as it arrives."""

    data: Annotated[str, Meta(extra_json_schema={"contentMediaType": "application/octet-stream"})]


class UploadObject(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    status: str
    file: FileObject | None
    object: Literal["upload"] = "upload"


class PartObject(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    created_at: int
    upload_id: str
    object: Literal["upload.part"] = "upload.part"


def upload_object(upload: Upload) -> UploadObject:
    is_done = upload.state == Upload.State.COMPLETED and upload.file is not None
    return UploadObject(
        id=upload.public_id,
        bytes=upload.bytes,
        created_at=int(upload.created_at.timestamp()),
        expires_at=int(upload.expires_at.timestamp()),
        filename=upload.filename,
        purpose=upload.purpose,
        status=upload.state,
        file=file_object(upload.file) if is_done and upload.file is not None else None,
    )


def part_object(part: UploadPart, upload_id: str) -> PartObject:
    return PartObject(
        id=part.public_id,
        created_at=int(part.created_at.timestamp()),
        upload_id=upload_id,
    )
