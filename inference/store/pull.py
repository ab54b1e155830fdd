"""Bringing one model version into the store: fetch, convert, hash, move into place.

A killed pull leaves the store as it was plus a staging folder that the next pull
goes on from: a version's folder appears by one rename, with its manifest.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from inference.errors import BadSource, ChecksumMismatch, StoreError, VersionTaken
from inference.store.conversion import DTYPE, convert_gguf
from inference.store.fetched import Fetched, Licence, Report, check_complete, find_gguf
from inference.store.folder_lock import locked
from inference.store.manifest import (
    Conversion,
    Manifest,
    StoredFile,
    check_hashes,
    has_all_files,
    hash_folder,
    read_manifest,
    total_sha256,
    write_manifest,
)
from inference.store.sources import get_source

# Long enough for the largest download of another process on a slow line.
LOCK_TIMEOUT_S = 4 * 3600
MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,119}")
VERSION_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")


@dataclass(frozen=True)
class Pull:
    """What to bring. ``sha256`` (of the source, see ``manifest.total_sha256``) pins it."""

    uri: str
    model: str
    version: str
    sha256: str = ""
    verify: bool = False
    replace: bool = False


@dataclass(frozen=True)
class Pulled:
    """``path`` is the folder relative to the store; ``fetched`` is False if it was there."""

    path: str
    folder: Path
    manifest: Manifest
    fetched: bool


@dataclass(frozen=True)
class _Staging:
    """The folders of a pull under way."""

    root: Path

    @property
    def source(self) -> Path:
        return self.root / "source"

    @property
    def converted(self) -> Path:
        return self.root / "converted"

    def open_for(self, uri: str) -> None:
        """Keep what an earlier attempt at the same URI fetched; clear all else."""
        marker = self.root / "uri"
        if marker.is_file() and marker.read_text() != uri:
            shutil.rmtree(self.root)
        self.source.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self.converted, ignore_errors=True)
        marker.write_text(uri)


def check_names(model: str, version: str) -> None:
    if not MODEL_NAME.fullmatch(model):
        raise BadSource(f"{model!r} is no model name: letters, digits, - and _ only.")
    if not VERSION_NAME.fullmatch(version):
        raise BadSource(f"{version!r} is no version: letters, digits, '.', - and _ only.")


def pull_model(wanted: Pull, store: Path, report: Report) -> Pulled:
    """Bring ``wanted`` into ``store``; instant when it is there. Raises ``StoreError``."""
    check_names(wanted.model, wanted.version)
    get_source(wanted.uri)
    try:
        lock = store / ".locks" / f"{wanted.model}@{wanted.version}.lock"
        with locked(lock, timeout_s=LOCK_TIMEOUT_S, report=report) as lock_fd:
            return _pull_locked(wanted, store, lock_fd, report)
    except OSError as error:
        raise StoreError(f"The store {store} cannot be written: {error}") from error


def _pull_locked(wanted: Pull, store: Path, lock_fd: int, report: Report) -> Pulled:
    path = f"{wanted.model}/{wanted.version}"
    folder = store / path
    staging = _Staging(store / ".staging" / f"{wanted.model}@{wanted.version}")
    present = _get_present(wanted, folder, report)
    if present is not None:
        shutil.rmtree(staging.root, ignore_errors=True)
        return Pulled(path, folder, present, fetched=False)
    staging.open_for(wanted.uri)
    manifest, content = _build(wanted, store, staging, lock_fd, report)
    write_manifest(content, manifest)
    _move_into_place(content, folder, staging.root)
    shutil.rmtree(staging.root)
    report(f"ready, sha256 {manifest.sha256[:16]}…")
    return Pulled(path, folder, manifest, fetched=True)


def _get_present(wanted: Pull, folder: Path, report: Report) -> Manifest | None:
    """The manifest of a whole copy that is already there; None to pull (again)."""
    if not folder.exists() or wanted.replace:
        return None
    manifest = read_manifest(folder)
    if manifest is None:
        raise VersionTaken(f"{folder} is there without a manifest; move it away or replace it.")
    if manifest.source != wanted.uri:
        raise VersionTaken(
            f"{wanted.model}@{wanted.version} holds {manifest.source}; "
            "take another version or replace it."
        )
    _check_pin(wanted, manifest.source_sha256)
    if not has_all_files(folder, manifest):
        report("files are missing or cut short; pulling again")
        return None
    if wanted.verify:
        report("hashing every file")
        check_hashes(folder, manifest)
    report("already in the store")
    return manifest


def _build(
    wanted: Pull, store: Path, staging: _Staging, lock_fd: int, report: Report
) -> tuple[Manifest, Path]:
    """Fetch and, for GGUF, convert; returns the manifest and the folder it describes."""
    fetch = get_source(wanted.uri)
    fetched = fetch(wanted.uri, staging.source, store / "downloads", report)
    _prune(staging.source, fetched.names)
    source_files = hash_folder(staging.source)
    gguf = find_gguf(staging.source)
    weights = {gguf.name: source_files[gguf.relative_to(staging.source).as_posix()]} if gguf else {}
    source_sha256 = total_sha256(weights or source_files)
    _check_pin(wanted, source_sha256)
    content, conversion = staging.source, None
    licences = list(fetched.licences) + _card_licence(staging.source)
    if gguf is not None:
        content = staging.converted
        conversion = _convert(gguf, staging, licences, lock_fd, report)
    check_complete(content)
    for file in content.rglob("*"):
        # safetensors writes for the owner alone; an engine may run as somebody else.
        file.chmod(0o755 if file.is_dir() else 0o644)
    files = hash_folder(content)
    manifest = _describe(wanted, fetched, files, source_files, source_sha256, licences, conversion)
    return manifest, content


def _describe(
    wanted: Pull,
    fetched: Fetched,
    files: dict[str, StoredFile],
    source_files: dict[str, StoredFile],
    source_sha256: str,
    licences: list[Licence],
    conversion: Conversion | None,
) -> Manifest:
    return Manifest(
        source=wanted.uri,
        revision=fetched.revision,
        pulled_at=datetime.now(UTC).isoformat(timespec="seconds"),
        files=files,
        sha256=total_sha256(files),
        source_files=source_files if conversion else {},
        source_sha256=source_sha256,
        licences=licences,
        conversion=conversion,
    )


def _prune(folder: Path, names: frozenset[str]) -> None:
    """Drop what an earlier attempt fetched and the source no longer has."""
    for path in folder.rglob("*"):
        if path.is_file() and path.relative_to(folder).as_posix() not in names:
            path.unlink()


def _check_pin(wanted: Pull, source_sha256: str) -> None:
    if wanted.sha256 and wanted.sha256 != source_sha256:
        raise ChecksumMismatch(
            f"{wanted.uri} has sha256 {source_sha256}, not the expected {wanted.sha256}."
        )


def _convert(
    gguf: Path, staging: _Staging, licences: list[Licence], lock_fd: int, report: Report
) -> Conversion:
    """Fill ``staging.converted``, licence texts included; adds the GGUF's own licence."""
    target = staging.converted
    target.mkdir()
    tool = convert_gguf(
        gguf, target, log=staging.root / "convert.log", lock_fd=lock_fd, report=report
    )
    (target / ".tool").unlink()
    named = (target / ".licence").read_text().strip()
    (target / ".licence").unlink()
    if named:
        licences.append(Licence("weights", named))
    for path in staging.source.iterdir():
        if path.is_file() and path.name.lower().startswith(("licen", "notice", "readme")):
            shutil.copyfile(path, target / path.name)
    return Conversion("gguf", DTYPE, tool)


def _card_licence(folder: Path) -> list[Licence]:
    """The ``license:`` of a model card's front matter."""
    card = folder / "README.md"
    if not card.is_file():
        return []
    front = re.match(r"---\n(.*?)\n---", card.read_text(errors="replace"), re.DOTALL)
    named = re.search(r"^license:\s*(\S+)\s*$", front[1], re.MULTILINE) if front else None
    return [Licence("model card", named[1])] if named else []


def _move_into_place(content: Path, folder: Path, staging: Path) -> None:
    """One rename; an older copy steps aside first, and running engines keep its files open."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.exists():
        old = staging / "replaced"
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    content.rename(folder)
    descriptor = os.open(folder.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
