"""What a source hands back, and which files of a model are taken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

import msgspec

from inference.errors import BadSource

Report = Callable[[str], None]


class Licence(msgspec.Struct, frozen=True):
    """A licence as somebody states it: the package and the model's card can differ."""

    stated_by: str
    name: str


@dataclass(frozen=True)
class Fetched:
    """``names`` are the files now in the staging folder, relative to it.

    ``revision`` is what the source resolved to: a commit, a package's version.
    """

    names: frozenset[str]
    revision: str = ""
    licences: tuple[Licence, ...] = ()


# Weights as safetensors or GGUF, and the text files around them. Left out on
# purpose: pickles (*.bin, *.pt) run code when loaded, *.py is code, and other
# frameworks' copies of the weights only fill the disk.
WANTED = (
    "*.safetensors", "*.gguf", "*.json", "*.jinja", "*.txt", "*.model", "*.md",
    "license*", "licence*", "notice*", "copying*",
)  # fmt: skip


def is_wanted(name: str) -> bool:
    """Whether the file ``name`` (a relative path) belongs in the store."""
    path = PurePosixPath(name)
    if any(part.startswith((".", "/")) for part in path.parts):
        return False
    return any(fnmatch(path.name.lower(), pattern) for pattern in WANTED)


def safe_target(folder: Path, name: str) -> Path:
    """``folder / name`` for a name that came from outside; raises when it leads out."""
    path = PurePosixPath(name)
    parts_are_plain = bool(path.parts) and not {"..", ".", "/"} & set(path.parts)
    if path.is_absolute() or not parts_are_plain or "\\" in name or "\0" in name:
        raise BadSource(f"The source names a file {name!r} outside its folder.")
    return folder.joinpath(*path.parts)


def find_gguf(folder: Path) -> Path | None:
    """The one GGUF file of a folder without safetensors; None when nothing to convert."""
    if any(folder.glob("**/*.safetensors")):
        return None
    found = sorted(folder.glob("**/*.gguf"))
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise BadSource(f"The source has several GGUF files ({names}): name one of them.")
    return found[0] if found else None


def check_complete(folder: Path) -> None:
    """Raise unless ``folder`` holds what an engine and a gateway load."""
    if not any(folder.glob("*.safetensors")):
        raise BadSource(
            "The source has no *.safetensors and no *.gguf weights. "
            "Pickled weights (*.bin, *.pt) are not taken: they run code when loaded."
        )
    for name in ("config.json", "tokenizer.json"):
        if not (folder / name).is_file():
            raise BadSource(f"The source has no {name}.")
