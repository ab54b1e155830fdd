"""Pages of ``docs/`` as HTML that is safe to show, with the headings that lead through them. Pure.

markdown-it-py parses and escapes; what it would pass through (HTML in the text) is left out, a
link keeps its target only if ``link`` names one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from django.template.loader import get_template
from django.utils.html import escape
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token

Link = Callable[[str], str | None]
_COMMENT = re.compile(r"<!--.*?-->", re.S)
_NO_SLUG = re.compile(r"[^\w\- ]")
LANGUAGES = {"sh": "Shell", "python": "Python", "javascript": "JavaScript", "json": "JSON"}


@dataclass(frozen=True)
class Heading:
    level: int
    text: str
    slug: str


@dataclass(frozen=True)
class Section:
    """What stands below one heading, as plain text; searched and excerpted."""

    heading: Heading
    text: str


@dataclass(frozen=True)
class Rendered:
    html: str  # safe
    headings: tuple[Heading, ...]
    sections: tuple[Section, ...]

    @property
    def title(self) -> str:
        return self.headings[0].text if self.headings else ""


@dataclass
class _State:
    link: Link
    slugs: dict[str, int] = field(default_factory=dict)
    codes: int = 0


def render(text: str, link: Link) -> Rendered:
    tokens = _PARSER.parse(_COMMENT.sub("", text))
    state = _State(link)
    headings = _mark_headings(tokens, state)
    _empty_heads(tokens)
    for token in tokens:
        _follow_links(token.children or [], link)
    html = _PARSER.renderer.render(tokens, _PARSER.options, {"state": state})
    return Rendered(html, tuple(headings), tuple(_sections(tokens, headings)))


def _mark_headings(tokens: Sequence[Token], state: _State) -> list[Heading]:
    headings = []
    for opening, inline in pairwise(tokens):
        if opening.type != "heading_open":
            continue
        text = plain_text(inline)
        slug = _slug(text, state.slugs)
        opening.attrSet("id", slug)
        headings.append(Heading(int(opening.tag[1]), text, slug))
    return headings


def _empty_heads(tokens: Sequence[Token]) -> None:
    """A head that says nothing is no head to a screen reader."""
    for opening, inline, closing in zip(tokens, tokens[1:], tokens[2:], strict=False):
        if opening.type == "th_open" and not inline.content:
            opening.tag = closing.tag = "td"


def _slug(text: str, known: dict[str, int]) -> str:
    """As GitHub makes it, so that links of the repository's pages hold."""
    slug = _NO_SLUG.sub("", text.lower()).replace(" ", "-") or "section"
    known[slug] = known.get(slug, -1) + 1
    return f"{slug}-{known[slug]}" if known[slug] else slug


def plain_text(inline: Token) -> str:
    breaks = {"softbreak", "hardbreak"}
    return "".join(
        " " if token.type in breaks else token.content for token in inline.children or []
    )


def _follow_links(tokens: Sequence[Token], link: Link) -> None:
    dropped: list[bool] = []
    for token in tokens:
        if token.type == "link_open":
            target = link(str(token.attrGet("href") or ""))
            dropped.append(target is None)
            token.attrs = {} if target is None else {"href": target}
            if target is None:
                token.tag = "span"
            elif "://" in target:
                token.attrSet("rel", "noopener noreferrer")
        elif token.type == "link_close" and dropped.pop():
            token.tag = "span"


def _sections(tokens: Sequence[Token], headings: Sequence[Heading]) -> list[Section]:
    texts: list[list[str]] = []
    for place, token in enumerate(tokens):
        if token.type == "heading_open":
            texts.append([])
        elif (
            texts and token.type in {"inline", "fence"} and tokens[place - 1].type != "heading_open"
        ):
            texts[-1].append(plain_text(token) if token.type == "inline" else token.content)
    found = zip(headings, texts, strict=True)
    return [Section(heading, re.sub(r"\s+", " ", " ".join(text))) for heading, text in found]


# --- What is rendered otherwise than markdown-it would --------------------------------------


def _fence(renderer: RendererHTML, tokens: Sequence[Token], place: int, _o: Any, env: Any) -> str:
    """With a button that copies it, as every code of the pages."""
    state: _State = env["state"]
    state.codes += 1
    name = tokens[place].info.strip()
    title = LANGUAGES.get(name, name or "Text")
    known = {
        "title": title,
        "id": f"code-{state.codes}",
        "content": tokens[place].content.rstrip("\n"),
    }
    return get_template("ui/code.html").render(known)


def _table_open(*_: Any) -> str:
    return '<div class="table-scroll" tabindex="0" role="group"><table>'


def _table_close(*_: Any) -> str:
    return "</table></div>"


def _image(_r: RendererHTML, tokens: Sequence[Token], place: int, _o: Any, _env: Any) -> str:
    return escape(tokens[place].content)


def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    for name, rule in {
        "fence": _fence,
        "code_block": _fence,
        "table_open": _table_open,
        "table_close": _table_close,
        "image": _image,
    }.items():
        parser.add_render_rule(name, rule)
    return parser


_PARSER = _parser()
