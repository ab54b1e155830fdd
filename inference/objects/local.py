"""Objects as files of one folder, which every process of the installation shares."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from inference.objects.store import CHUNK_BYTES, ObjectMissing, ObjectStoreUnavailable

_KEY = re.compile(r"[0-9]{1,19}/[A-Za-z0-9_-]{1,64}")


class LocalStore:
    def __init__(self, folder: Path):
        self._folder = folder

    def writer(self, key: str) -> LocalWriter:
        path = self._path(key)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            return LocalWriter(path)
        except OSError as error:
            raise _unavailable(error) from error

    def read(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        try:
            with self._path(key).open("rb") as file:
                file.seek(start)
                left = None if end is None else end - start
                while left is None or left > 0:
                    chunk = file.read(CHUNK_BYTES if left is None else min(left, CHUNK_BYTES))
                    if not chunk:
                        return
                    left = None if left is None else left - len(chunk)
                    yield chunk
        except FileNotFoundError:
            raise ObjectMissing("The file's content is gone.") from None
        except OSError as error:
            raise _unavailable(error) from error

    def delete(self, key: str) -> None:
        path = self._path(key)
        try:
            path.unlink(missing_ok=True)
            _part(path).unlink(missing_ok=True)
        except OSError as error:
            raise _unavailable(error) from error
        with suppress(OSError):  # the organization's last
            path.parent.rmdir()

    def _path(self, key: str) -> Path:
        """Keys come from rows; still, none may lead out of the folder."""
        if not _KEY.fullmatch(key):
            raise ValueError(f"{key!r} is not the key of an object.")
        return self._folder / key


class LocalWriter:
    def __init__(self, path: Path):
        self._path = path
        self._file = os.fdopen(
            os.open(_part(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb"
        )

    def write(self, data: bytes) -> None:
        try:
            self._file.write(data)
        except OSError as error:
            raise _unavailable(error) from error

    def commit(self) -> None:
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            _part(self._path).rename(self._path)
            folder = os.open(self._path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise _unavailable(error) from error

    def abort(self) -> None:
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            _part(self._path).unlink(missing_ok=True)


def _part(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def _unavailable(error: OSError) -> ObjectStoreUnavailable:
    unavailable = ObjectStoreUnavailable("Files cannot be stored or read right now.")
    unavailable.__cause__ = error
    return unavailable
