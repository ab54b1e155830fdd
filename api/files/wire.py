"""Files in OpenAI's form."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from inference.files.models import File

LEAST_EXPIRY_S, MOST_EXPIRY_S = 3_600, 2_592_000  # an hour, 30 days


class ExpiresAfter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    anchor: Literal["created_at"]
    seconds: Annotated[int, Meta(ge=LEAST_EXPIRY_S, le=MOST_EXPIRY_S)]


class UploadFields(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an upload says beside its file."""

    purpose: str
    expires_after: ExpiresAfter | None = None


class ListFiles(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    purpose: Annotated[str, Meta(max_length=64)] | None = None
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 10_000
    order: Literal["asc", "desc"] = "desc"
    after: Annotated[str, Meta(max_length=64)] | None = None


class FileObject(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    bytes: int
    created_at: int
    expires_at: int | None
    filename: str
    purpose: str
    object: Literal["file"] = "file"
    status: Literal["processed"] = "processed"
    status_details: None = None


class DeletedFile(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    object: Literal["file"] = "file"
    deleted: bool = True


def file_object(file: File) -> FileObject:
    return FileObject(
        id=file.public_id,
        bytes=file.bytes,
        created_at=int(file.created_at.timestamp()),
        expires_at=int(file.expires_at.timestamp()) if file.expires_at else None,
        filename=file.filename,
        purpose=file.purpose,
    )
