"""Parts become a file: read in their order, hashed, and written as one object."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

from inference.errors import InvalidRequest
from inference.files.models import File
from inference.objects import ObjectStore, object_store
from inference.uploads.models import UploadPart


def assemble(file: File, parts: Sequence[UploadPart], md5: str | None) -> str:
    """The SHA-256 of the file, whose object is there afterwards. Blocking; no database.

    ``md5`` is what the client expects, in hexadecimal. Raises InvalidRequest if it is another,
    the errors of the store, and leaves nothing then.
    """
    store = object_store()
    store.delete(file.object_key)  # of an attempt that failed
    writer = store.writer(file.object_key)
    try:
        # Not for security: it is what the client has to compare with.
        seen, digest = hashlib.md5(usedforsecurity=False), hashlib.sha256()
        for piece in _pieces(store, parts):
            seen.update(piece)
            digest.update(piece)
            writer.write(piece)
        if md5 is not None and seen.hexdigest() != md5.lower():
            raise InvalidRequest(
                f"The parts together have the MD5 {seen.hexdigest()}, not {md5}.", param="md5"
            )
        writer.commit()
    except BaseException:
        writer.abort()
        raise
    return digest.hexdigest()


def _pieces(store: ObjectStore, parts: Sequence[UploadPart]) -> Iterator[bytes]:
    for part in parts:
        yield from store.read(part.object_key)
