"""``python -m api.document [--write]``: the parts of pages that are made of the code.

Without ``--write`` it says which are out of date, and fails if any is.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import django

DOCS = Path(__file__).resolve().parents[2] / "docs"


def parts() -> list[tuple[str, str, Callable[[], str]]]:
    """Page, name of the part, what makes it."""
    from api.document.conformance.page import render_conformance
    from api.document.errors import error_table
    from api.document.limits import limit_tables

    return [
        ("api.md", "errors", error_table),
        ("limits.md", "limits", limit_tables),
        ("conformance.md", "conformance", render_conformance),
    ]


def main(arguments: list[str]) -> int:
    from api.document.guide import with_part

    old = []
    for page, name, render in parts():
        path = DOCS / page
        text = path.read_text()
        made = with_part(text, name, render())
        if made != text:
            old.append(page)
            if "--write" in arguments:
                path.write_text(made)
    for page in old:
        sys.stdout.write(f"docs/{page} {'is written' if '--write' in arguments else 'is old'}\n")
    return int(bool(old) and "--write" not in arguments)


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    django.setup()
    sys.exit(main(sys.argv[1:]))
