"""The table of weight sources. A source is a sibling file with one function::

    fetch(uri, staging, downloads, report) -> Fetched

It leaves the wanted files in the existing folder ``staging``, going on from what
an earlier attempt left there, and raises only ``StoreError`` and ``OSError``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from inference.errors import BadSource
from inference.store import file, hf, pypi, s3
from inference.store.fetched import Fetched, Report

Fetch = Callable[[str, Path, Path, Report], Fetched]

SOURCES: dict[str, Fetch] = {
    "file": file.fetch,
    "hf": hf.fetch,
    "pypi": pypi.fetch,
    "s3": s3.fetch,
}


def get_source(uri: str) -> Fetch:
    """The source for a URI; raises ``BadSource`` for a scheme that there is not."""
    scheme, separator, _ = uri.partition("://")
    if not separator or scheme not in SOURCES:
        known = ", ".join(f"{name}://" for name in SOURCES)
        raise BadSource(f"{uri!r} does not start with one of {known}.")
    return SOURCES[scheme]
