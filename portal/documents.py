"""The documentation that the portal publishes: pages of ``docs/``, read once a change of theirs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

from django.conf import settings
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from portal.markdown import Rendered, render

MOST_FOUND = 20
EXCERPT_CHARACTERS = 220


@dataclass(frozen=True)
class Document:
    slug: str
    label: str | Promise
    path: str  # below the project's root
    section: str = ""  # only what is below this heading of it
    words: str = ""  # what else somebody may search it by


DOCUMENTS = (
    Document("guide", _("API guide"), "docs/api.md", words="chat completions embeddings streaming"),
    Document("examples", _("Examples"), "docs/guide.md", words="python javascript curl openai"),
    Document("management-api", _("Management API"), "docs/api-management.md", words="admin keys"),
    Document("errors", _("Errors"), "docs/api.md", "Errors", words="codes status catalogue"),
    Document("limits", _("Limits"), "docs/limits.md", words="numbers bounds sizes"),
    Document("conformance", _("Conformance"), "docs/conformance.md", words="openai parameters"),
    Document("differences", _("Differences"), "docs/differences.md", words="openai vllm"),
    Document("changelog", _("Changelog"), "CHANGELOG.md", words="releases news versions"),
)
BY_SLUG = {document.slug: document for document in DOCUMENTS}
# Where a link to a file of ``docs/`` leads; parts of a page are no page of their own.
_BY_FILE = {document.path: document for document in DOCUMENTS if not document.section}


def read(document: Document) -> Rendered:
    """Rendered anew only when its file changes."""
    path = Path(settings.BASE_DIR) / document.path
    return _read(document, path.stat().st_mtime_ns)


@lru_cache(maxsize=2 * len(DOCUMENTS))
def _read(document: Document, _changed: int) -> Rendered:
    text = (Path(settings.BASE_DIR) / document.path).read_text()
    if document.section:
        text = part_of(text, document.section)
    return render(text, lambda target: link_of(document, target))


def part_of(text: str, heading: str) -> str:
    """A page that begins with this second-level heading and ends before the next."""
    _, found, rest = f"\n{text}".partition(f"\n## {heading}\n")
    if not found:
        raise LookupError(f"The page has no section {heading!r}.")
    return f"# {heading}\n{rest.partition(chr(10) + '## ')[0]}"


def link_of(document: Document, target: str) -> str | None:
    """The address that a link means here; None for what is not published."""
    parts = urlsplit(target)
    if parts.scheme or parts.netloc:
        return target if parts.scheme in {"https", "http"} else None
    if not parts.path:
        # A part of a page that was taken out of it leads back to the whole.
        whole = _BY_FILE[document.path]
        return f"#{parts.fragment}" if not document.section else _address(whole, parts.fragment)
    folder = Path(document.path).parent
    file = str(folder / parts.path)
    if (found := _BY_FILE.get(file)) is None:
        return None
    return _address(found, parts.fragment)


def _address(document: Document, fragment: str) -> str:
    return reverse("document", args=[document.slug]) + (f"#{fragment}" if fragment else "")


@dataclass(frozen=True)
class Hit:
    document: Document
    title: str
    url: str
    excerpt: str
    score: int


def search(query: str) -> list[Hit]:
    """The 20 best sections that have every word; those in headings count most."""
    words = query.lower().split()[:8]
    if not words:
        return []
    hits = [hit for document in DOCUMENTS if not document.section for hit in _hits(document, words)]
    return sorted(hits, key=lambda hit: -hit.score)[:MOST_FOUND]


def _hits(document: Document, words: list[str]) -> Iterator[Hit]:
    for section in read(document).sections:
        title, text = section.heading.text, section.text
        low, low_title = text.lower(), title.lower()
        if not all(word in low or word in low_title for word in words):
            continue
        in_title = sum(word in low_title for word in words)
        often = sum(min(low.count(word), 5) for word in words)
        address = _address(document, section.heading.slug)
        yield Hit(document, title, address, _excerpt(text, low, words), 20 * in_title + often)


def _excerpt(text: str, low: str, words: list[str]) -> str:
    first = min((at for word in words if (at := low.find(word)) >= 0), default=0)
    start = max(0, text.rfind(" ", 0, max(0, first - 60)) + 1)
    end = start + EXCERPT_CHARACTERS
    return f"{'… ' if start else ''}{text[start:end]}{' …' if end < len(text) else ''}"
