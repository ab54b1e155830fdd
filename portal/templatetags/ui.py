"""The components that pages are built of; ``/admin/design/`` shows each in every state.

Those with a slot are block tags (``{% card "Title" %}…{% endcard %}``), the others plain
tags. Their HTML lies in ``templates/ui/``, their looks in ``components.css``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from django import template
from django.template.base import FilterExpression, NodeList, Parser, Token, token_kwargs
from django.template.context import Context
from django.template.loader import get_template
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _
from lucide.templatetags.lucide import lucide as draw_icon

from portal.changes import Change
from portal.charts import Chart, draw_spark
from portal.tables import Table

register = template.Library()

# The tones of badges, banners, progress bars and toasts.
TONES = ("", "good", "info", "warn", "bad")


@cache
def _icon(name: str) -> SafeString:
    # The size is the style sheet's, the name of what it stands for its neighbour's.
    return SafeString(draw_icon(name, size=16, aria_hidden="true", **{"class": "icon"}))


@register.simple_tag
def icon(name: str) -> SafeString:
    """An icon of lucide (``key``, ``chart-line``, …): decoration, silent for screen readers."""
    return _icon(str(name))


# --- Tables ------------------------------------------------------------------------------


class TableNode(template.Node):
    def __init__(self, table: FilterExpression, options: dict[str, FilterExpression],
                 body: NodeList, empty: NodeList):  # fmt: skip
        self.table, self.options, self.body, self.empty = table, options, body, empty

    def render(self, context: Context) -> str:
        table: Table = self.table.resolve(context)
        options = {name: value.resolve(context) for name, value in self.options.items()}
        row_name = options.pop("row", "row")
        rows = [self._row(context, table, row_name, row) for row in table.rows]
        shown = {"table": table, "rows": rows, "label": "", "style": ""} | options
        with context.push(**shown):
            if not rows:
                return self.empty.render(context)
            return get_template("ui/table.html").template.render(context)  # type: ignore[attr-defined]

    def _row(self, context: Context, table: Table, name: str, row: Any) -> SafeString:
        with context.push(**{name: row, "table": table}):
            return mark_safe(self.body.render(context))  # noqa: S308 - rendered by templates


@register.tag("table")
def table_tag(parser: Parser, token: Token) -> TableNode:
    """``{% table keys row="key" label="API keys" %}cells{% empty %}nothing there{% endtable %}``.

    The body is rendered once a row; what follows ``{% empty %}`` stands in the table's place
    when there are no rows. ``label`` names the region for screen readers, ``style`` adds classes.
    """
    bits = token.split_contents()[1:]
    table = parser.compile_filter(bits.pop(0))
    options = token_kwargs(bits, parser)
    body = parser.parse(("empty", "endtable"))
    empty = NodeList()
    if parser.next_token().contents == "empty":
        empty = parser.parse(("endtable",))
        parser.delete_first_token()
    return TableNode(table, options, body, empty)


@register.simple_block_tag(takes_context=True)
def cell(context: Context, content: str, name: str) -> SafeString:
    """A row's cell of the column ``name``, aligned and labelled as that says."""
    column = context["table"].column(name)
    return format_html(
        '<td class="{}" data-label="{}">{}</td>', column.classes, column.label, content
    )


@register.inclusion_tag("ui/filters.html")
def filters(table: Table, label: str) -> dict[str, Any]:
    """The filter's form above its table; its selects send it by themselves, with script."""
    return {"table": table, "form": table.form, "label": label}


# --- Frames for what a page says -----------------------------------------------------------


@register.simple_block_tag
def card(
    content: str, title: str = "", note: str = "", style: str = "", id: str = ""
) -> SafeString:
    """A titled box. ``note`` explains in a sentence; ``style`` adds classes; ``id`` is a target."""
    head = SafeString("")
    if title:
        told = format_html("<p>{}</p>", note) if note else ""
        head = format_html('<div class="card-head"><h2>{}</h2>{}</div>', title, told)
    anchor = format_html(' id="{}"', id) if id else ""
    label = format_html(' aria-label="{}"', title) if title else ""
    return format_html(
        '<section class="card {}"{}{}>{}<div class="card-body">{}</div></section>',
        style, anchor, label, head, content,
    )  # fmt: skip


@register.simple_block_tag
def banner(content: str, tone: str = "info", title: str = "") -> SafeString:
    """What holds for the whole page; ``bad`` and ``warn`` are read out at once."""
    signs = {
        "info": "info",
        "good": "circle-check",
        "warn": "triangle-alert",
        "bad": "octagon-alert",
    }
    role = "alert" if tone in {"bad", "warn"} else "status"
    heading = format_html("<strong>{}</strong> ", title) if title else ""
    return format_html(
        '<div class="banner {}" role="{}">{}<div>{}{}</div></div>',
        tone, role, _icon(signs[tone]), heading, content,
    )  # fmt: skip


@register.simple_block_tag
def empty_state(content: str, title: str, icon: str = "inbox", style: str = "") -> SafeString:
    """Nothing there yet: what would be, and the way to the first one."""
    return format_html(
        '<div class="empty {}"><span class="empty-icon">{}</span><h2>{}</h2>{}</div>',
        style, _icon(icon), title, content,
    )  # fmt: skip


@register.inclusion_tag("ui/failed.html")
def failed(title: str, text: str = "", retry: str = "") -> dict[str, str]:
    """Something could not be read: calm, with the address to try again (empty: this page)."""
    return {"title": title, "text": text, "retry": retry}


@register.inclusion_tag("ui/loading.html")
def loading(lines: int = 3, label: str = "") -> dict[str, Any]:
    """In the place of what a script will fetch, in its size, so that nothing jumps."""
    return {"lines": range(lines), "label": label}


# --- Figures -------------------------------------------------------------------------------


@register.inclusion_tag("ui/tile.html")
def tile(label: str, figure: str, note: str = "", change: Change | None = None,
         spark: Sequence[int] = (), url: str = "") -> dict[str, Any]:  # fmt: skip
    """A figure with what it is compared with. The figure is written by the caller's filter."""
    return {"label": label, "figure": figure, "note": note, "change": change, "url": url,
            "spark": draw_spark(spark)}  # fmt: skip


@register.inclusion_tag("ui/chart.html")
def chart(chart: Chart, label: str, first: str = "", id: str = "chart") -> dict[str, Any]:
    """A picture and the table behind it; ``first`` heads the table's first column ("Day")."""
    return {"chart": chart, "label": label, "first": first, "id": id}


@register.inclusion_tag("ui/meter.html")
def meter(value: int, maximum: int, label: str, text: str = "") -> dict[str, Any]:
    """How much of a limit is used: warns from 80 %, is red when nothing is left."""
    share = value / maximum if maximum > 0 else 1.0
    tone = "bad" if share >= 1 else "warn" if share >= 0.8 else ""
    return {"value": min(value, maximum), "maximum": max(1, maximum), "label": label, "text": text,
            "tone": tone}  # fmt: skip


@register.simple_tag
def badge(label: str, tone: str = "") -> SafeString:
    """A state in a word; the word says it, the colour only repeats it."""
    return format_html('<span class="badge {}">{}</span>', tone if tone in TONES else "", label)


# --- Ways ----------------------------------------------------------------------------------


@register.inclusion_tag("ui/tabs.html", takes_context=True)
def tabs(context: Context, label: str, here: str, *pairs: str) -> dict[str, Any]:
    """Parts of one place: ``{% tabs "Settings" here "general" "General" url … %}`` in threes."""
    items = [dict(zip(("name", "label", "url"), each, strict=True)) for each in _threes(pairs)]
    return {"label": label, "here": here, "items": items}


def _threes(values: Sequence[str]) -> list[Sequence[str]]:
    return [values[at : at + 3] for at in range(0, len(values), 3)]


@register.simple_tag
def breadcrumbs(*pairs: str) -> SafeString:
    """``{% breadcrumbs "Projects" projects_url project.name %}``: the last one is this page."""
    ways = list(zip(pairs[0:-1:2], pairs[1::2], strict=True))
    links = format_html_join("", '<li><a href="{1}">{0}</a></li>', ways)
    return format_html(
        '<nav class="crumbs" aria-label="{}"><ol>{}<li aria-current="page">{}</li></ol></nav>',
        _("Breadcrumbs"), links, pairs[-1],
    )  # fmt: skip


# --- Code ----------------------------------------------------------------------------------


@register.simple_block_tag
def code(content: str, title: str, id: str) -> SafeString:
    """A block of code with a button that copies it; ``id`` is unique on the page."""
    rendered: SafeString = get_template("ui/code.html").render(  # type: ignore[assignment]
        {"title": title, "id": id, "content": SafeString(content.strip("\n"))}
    )
    return rendered


@register.inclusion_tag("ui/code_tabs.html", takes_context=True)
def code_tabs(context: Context, samples: Sequence[tuple[str, str, str]], id: str) -> dict[str, Any]:
    """The same in several languages, as (name, title, text); the reader's last choice is open."""
    chosen = context.get("code_language", "")
    names = [name for name, _, _ in samples]
    return {"samples": samples, "id": id, "chosen": chosen if chosen in names else names[0]}
