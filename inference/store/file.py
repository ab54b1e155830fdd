"""``file:///folder`` or ``file:///weights.gguf``: weights that already lie on a disk.

They are copied, so that a later change of the original does not change the store.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from inference.errors import BadSource
from inference.store.fetched import Fetched, Report, is_wanted, safe_target


def parse(uri: str) -> Path:
    parts = urlsplit(uri)
    path = Path(unquote(parts.path))
    if parts.netloc not in {"", "localhost"} or not path.is_absolute():
        raise BadSource(f"{uri!r} is not file:///absolute/path.")
    if not path.exists():
        raise BadSource(f"{path} does not exist.")
    return path


def fetch(uri: str, staging: Path, downloads: Path, report: Report) -> Fetched:
    source = parse(uri)
    if source.is_file() and not is_wanted(source.name):
        raise BadSource(f"{source.name} is neither *.gguf nor *.safetensors.")
    files = [(source, source.name)] if source.is_file() else list(_wanted_files(source))
    for path, name in files:
        target = safe_target(staging, name)
        if target.is_file() and target.stat().st_size == path.stat().st_size:
            continue
        report(f"copying {name}, {path.stat().st_size >> 20} MiB")
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(target.name + ".part")
        shutil.copyfile(path, part)
        part.rename(target)
    return Fetched(frozenset(name for _, name in files))


def _wanted_files(folder: Path) -> Iterator[tuple[Path, str]]:
    """Symbolic links to files are followed: a hub's cache is made of them."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and is_wanted(name):
            yield path, name
