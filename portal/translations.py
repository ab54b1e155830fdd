"""``python -m portal.translations``: the catalogues that Django reads, from those people write.

``locale/<language>/LC_MESSAGES/django.po`` is kept in git, ``django.mo`` beside it is built
(`make install`, `make up`, the image). polib compiles, so that no gettext has to be
installed; only collecting new texts (`make texts`) takes its xgettext.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polib

LOCALE = Path(__file__).resolve().parent.parent / "locale"


def catalogues(folder: Path = LOCALE) -> Iterator[Path]:
    yield from sorted(folder.glob("*/LC_MESSAGES/django.po"))


def compile_all(folder: Path = LOCALE) -> list[Path]:
    """Writes each catalogue that is newer than what was compiled of it; returns those."""
    written = []
    for source in catalogues(folder):
        target = source.with_suffix(".mo")
        if target.exists() and target.stat().st_mtime >= source.stat().st_mtime:
            continue
        # A reader never sees half a file: two processes may start at the same time.
        unfinished = target.with_suffix(".mo.new")
        polib.pofile(str(source)).save_as_mofile(str(unfinished))
        unfinished.replace(target)
        written.append(target)
    return written


if __name__ == "__main__":
    for path in compile_all():
        print(path.relative_to(LOCALE.parent))
