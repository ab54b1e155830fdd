"""``sluice.json``: what a folder of the store is, where it came from, and its hashes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from inference.errors import ChecksumMismatch, StoreError
from inference.store.fetched import Licence

NAME = "sluice.json"
FORMAT = 1


class StoredFile(msgspec.Struct, frozen=True):
    size: int
    sha256: str


class Conversion(msgspec.Struct, frozen=True):
    """How the stored files were made of the source's."""

    source_format: str
    dtype: str
    tool: str


class Manifest(msgspec.Struct, frozen=True):
    """``sha256`` is ``total_sha256`` of ``files``; ``source_sha256`` that of what was fetched.

    ``source_files`` is empty where nothing was converted: they are the ``files``.
    """

    source: str
    revision: str
    pulled_at: str  # ISO 8601, UTC
    files: dict[str, StoredFile]
    sha256: str
    source_files: dict[str, StoredFile]
    source_sha256: str
    licences: list[Licence]
    conversion: Conversion | None = None
    format: int = FORMAT


def hash_file(path: Path) -> StoredFile:
    with path.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256")
        # What is hashed here is about to be called complete: it has to be on the disk.
        os.fsync(content.fileno())
        return StoredFile(content.tell(), digest.hexdigest())


def hash_folder(folder: Path) -> dict[str, StoredFile]:
    """Every file below ``folder`` but the manifest, by its relative name."""
    names = sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )
    return {name: hash_file(folder / name) for name in names if name != NAME}


def total_sha256(files: Mapping[str, StoredFile]) -> str:
    """SHA-256 of the lines that ``sha256sum`` prints for the files, ordered by name.

    One file alone is its own digest, so that a pinned GGUF compares with its publisher's.
    """
    if len(files) == 1:
        return next(iter(files.values())).sha256
    lines = "".join(f"{files[name].sha256}  {name}\n" for name in sorted(files))
    return hashlib.sha256(lines.encode()).hexdigest()


def read_manifest(folder: Path) -> Manifest | None:
    """The folder's manifest; None when it has none."""
    try:
        return msgspec.json.decode((folder / NAME).read_bytes(), type=Manifest)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise StoreError(f"{folder / NAME} is not a manifest: {error}") from error


def write_manifest(folder: Path, manifest: Manifest) -> None:
    with (folder / NAME).open("wb") as out:
        out.write(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
        out.flush()
        os.fsync(out.fileno())


def has_all_files(folder: Path, manifest: Manifest) -> bool:
    """Whether each file is there in its size: cheap enough for every start."""
    for name, stored in manifest.files.items():
        try:
            if (folder / name).stat().st_size != stored.size:
                return False
        except FileNotFoundError:
            return False
    return True


def check_hashes(folder: Path, manifest: Manifest) -> None:
    """Read every byte; raise ``ChecksumMismatch`` naming the files that differ."""
    found = hash_folder(folder)
    names = {name for name in found.keys() | manifest.files if
             found.get(name) != manifest.files.get(name)}  # fmt: skip
    if names:
        raise ChecksumMismatch(f"{folder.name}: not as pulled: {', '.join(sorted(names))}.")
