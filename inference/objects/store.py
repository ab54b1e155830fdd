"""What an object store is, and the one that the settings choose."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from django.conf import settings

from inference.errors import InferenceError

CHUNK_BYTES = 1 << 20


class ObjectStoreUnavailable(InferenceError):
    """The store did not answer, or refused what it never should."""

    status = 503
    code = "storage_unavailable"
    kind = "server_error"


class ObjectMissing(InferenceError):
    """No object has this key (any more)."""

    status = 404
    code = "not_found"


class ObjectWriter(Protocol):
    """One object being written; nobody sees it before ``commit``. Blocking: use a thread."""

    def write(self, data: bytes) -> None: ...

    def commit(self) -> None: ...

    def abort(self) -> None:
        """Leave nothing behind; harmless after ``commit`` failed."""


class ObjectStore(Protocol):
    """Blocking: event loops call it in a thread. Raises ObjectStoreUnavailable."""

    def writer(self, key: str) -> ObjectWriter: ...

    def read(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes from ``start`` to before ``end`` in pieces; raises ObjectMissing."""
        ...

    def delete(self, key: str) -> None:
        """Also what is not there, and what was left half written."""


def object_store() -> ObjectStore:
    return _store(settings.OBJECT_STORE)


@lru_cache(maxsize=4)
def _store(address: str) -> ObjectStore:
    parts = urlsplit(address)
    if parts.scheme == "s3":
        from inference.objects.s3 import S3Store

        return S3Store(parts.netloc, unquote(parts.path).strip("/"))
    from inference.objects.local import LocalStore

    return LocalStore(Path(unquote(parts.path)))
