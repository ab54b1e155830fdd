"""A file that arrives in pieces through a blocking door: stored whole, or not at all.

``api.files.upload`` does the same from a socket, in the event loop.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

from django.conf import settings
from django.utils import timezone

from inference.errors import InvalidRequest
from inference.files.actions import KEPT_FOR, begin_file, finish_file, give_up_file, too_large
from inference.files.models import File
from inference.objects import ObjectWriter, object_store
from tenants.models import Project, User

MOST_FILENAME_CHARACTERS = 255


def store_batch_file(
    project: Project,
    chunks: Iterable[bytes],
    *,
    filename: str,
    size: int,
    acting_user: User,
    address: str | None = None,
) -> File:
    """Requests of a batch, ``size`` bytes at most. ``project`` has its organization and plan.

    Raises InvalidRequest, FileTooLarge, StorageQuotaExceeded, ObjectStoreUnavailable; then
    nothing is left behind.
    """
    if size <= 0:
        raise InvalidRequest("The file is empty.", param="file")
    file = begin_file(project, reserved_bytes=size, api_key=None, purpose=File.Purpose.BATCH)
    writer: ObjectWriter | None = None
    digest = hashlib.sha256()
    try:
        writer = object_store().writer(file.object_key)
        stored = _write(writer, _hashed(chunks, digest), min(size, settings.MAX_FILE_BYTES))
        return finish_file(
            file,
            filename=label_of(filename),
            size=stored,
            sha256=digest.hexdigest(),
            expires_at=timezone.now() + KEPT_FOR,
            acting_user=acting_user,
            address=address,
        )
    except BaseException:
        if writer is not None:
            writer.abort()
        give_up_file(file)
        raise


def _hashed(chunks: Iterable[bytes], digest: hashlib._Hash) -> Iterator[bytes]:
    for chunk in chunks:
        digest.update(chunk)
        yield chunk


def _write(writer: ObjectWriter, chunks: Iterable[bytes], most: int) -> int:
    stored = 0
    for chunk in chunks:
        stored += len(chunk)
        if stored > most:
            raise too_large()
        writer.write(chunk)
    writer.commit()
    return stored


def label_of(filename: str) -> str:
    """A label for people: no path, no control character."""
    name = PurePosixPath(filename.replace("\\", "/")).name
    name = "".join(character for character in name if character.isprintable())
    return name[-MOST_FILENAME_CHARACTERS:] or "upload"
