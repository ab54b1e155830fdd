"""Tables of the pages under ``docs/`` that are made of the code, between marks of their own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(_cell(cell) for cell in line) + " |\n" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def with_part(page: str, name: str, content: str) -> str:
    """``page`` with what is between the marks of ``name`` made anew."""
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
    before, found, rest = page.partition(begin)
    _, ended, after = rest.partition(end)
    if not found or not ended:
        raise LookupError(f"The page has no place for {name}: {begin.strip()} … {end}.")
    return f"{before}{begin}{content}{end}{after}"
