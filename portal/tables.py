"""Lists that sort, filter and page on the server: one class for each list of the portal.

The address holds the whole state (``?sort=-created&page=2&q=…``), so that a list can be
linked to, reloaded and walked with the browser's arrows, and works without script. A view
makes the table and hands it to its template, which writes the cells:

    class KeyTable(Table):
        columns = (Column("name", "Name", order=("name",), is_primary=True), …)
        sort = "-created"

        def get_rows(self, chosen): return selectors.get_api_keys(…, **chosen)

    {% table keys row="key" label="API keys" %}{% cell "name" %}…{% endcell %}…{% endtable %}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from typing import Any, ClassVar

from django.core.paginator import Page, Paginator
from django.db.models import F, QuerySet
from django.db.models.expressions import OrderBy
from django.forms import Form
from django.http import HttpRequest, QueryDict
from django.utils.functional import Promise

PAGE_SIZE = 50


@dataclass(frozen=True)
class Column:
    name: str
    label: str | Promise
    # The fields that sort by it, as in ``order_by``; none: no order is offered.
    order: tuple[str, ...] = ()
    starts_descending: bool = False  # for times and amounts: the newest, the most first
    # Never-used keys and the like come last both ways; costs the index, so only where needed.
    is_sparse: bool = False
    is_number: bool = False
    is_primary: bool = False  # names the row; heads its card on a phone
    is_silent: bool = False  # says itself what it is: no label on a phone
    is_hidden: bool = False  # its head is for screen readers alone: actions
    style: str = ""  # further classes of its cells

    @property
    def classes(self) -> str:
        flags = {
            "number": self.is_number,
            "primary-cell": self.is_primary,
            "silent": self.is_silent,
            "row-action": self.is_hidden,
        }
        return " ".join([name for name, is_on in flags.items() if is_on] + self.style.split())


@dataclass(frozen=True)
class Head:
    """A column's head: where it leads and what ``aria-sort`` says."""

    column: Column
    url: str = ""  # empty: cannot be sorted
    sorted: str = ""  # "ascending", "descending" or nothing


class Table:
    """A list in one state of its address. Subclasses say what is in it, templates how it looks.

    ``form`` is a bound filter form (its errors show beside its fields, and what is wrong
    filters nothing); ``prefix`` keeps two tables of one page apart.
    """

    columns: ClassVar[tuple[Column, ...]]
    sort: ClassVar[str]  # the order of an address without one: a column's name, "-" before it
    page_size: ClassVar[int] = PAGE_SIZE
    # Makes every order total: without it rows that tie may show on two pages, or on none.
    tie: ClassVar[str] = "pk"

    def __init__(self, request: HttpRequest, *, form: Form | None = None, prefix: str = ""):
        self.query: QueryDict = request.GET
        self.form = form
        self.prefix = f"{prefix}-" if prefix else ""

    def get_rows(self, chosen: Mapping[str, Any]) -> QuerySet[Any] | Sequence[Any]:
        """The rows that the filter's values ask for, from a selector, in any order.

        A bounded sequence (a report's lines) is sorted here, by attributes of these names.
        """
        raise NotImplementedError

    def prepare(self, rows: Sequence[Any]) -> Sequence[Any]:
        """What the template gets for the rows of this page; a place to look things up at once."""
        return rows

    @cached_property
    def chosen(self) -> dict[str, Any]:
        """The filter's valid values; what is empty or wrong filters nothing."""
        if self.form is None:
            return {}
        self.form.is_valid()
        return {name: value for name, value in self.form.cleaned_data.items() if value}

    @property
    def is_filtered(self) -> bool:
        return bool(self.chosen)

    @cached_property
    def order(self) -> tuple[Column, bool]:
        """The column that the list is sorted by, and whether downwards."""
        by_name = {column.name: column for column in self.columns if column.order}
        for asked in (self.query.get(f"{self.prefix}sort", ""), self.sort):
            if (name := asked.removeprefix("-")) in by_name:
                return by_name[name], asked.startswith("-")
        raise LookupError(f"{type(self).__name__}.sort names no column that has an order")

    @cached_property
    def page(self) -> Page:
        return self.paged()

    def paged(self, count: int | None = None) -> Page:
        """The page that the address asks for; ``count`` saves a query where it is known."""
        column, is_descending = self.order
        rows = self.get_rows(self.chosen)
        if isinstance(rows, QuerySet):
            order = [_ordered(field, is_descending, column.is_sparse) for field in column.order]
            rows = rows.order_by(*order, _ordered(self.tie, is_descending))
        else:
            rows = _sorted(rows, column.order, is_descending)
        pages = Paginator(rows, self.page_size)
        if count is not None:
            pages.__dict__["count"] = count  # a cached property's place
        return pages.get_page(self.query.get(f"{self.prefix}page"))

    @cached_property
    def rows(self) -> Sequence[Any]:
        return self.prepare(list(self.page.object_list))

    @property
    def heads(self) -> list[Head]:
        return [self._head(column) for column in self.columns]

    def _head(self, column: Column) -> Head:
        if not column.order:
            return Head(column)
        current, is_descending = self.order
        if column.name != current.name:
            return Head(column, self._sorted_by(column, column.starts_descending))
        state = "descending" if is_descending else "ascending"
        return Head(column, self._sorted_by(column, not is_descending), state)

    def _sorted_by(self, column: Column, is_descending: bool) -> str:
        # Another order begins at its first page.
        name = f"-{column.name}" if is_descending else column.name
        return self.address(sort=name, page=None)

    @property
    def previous_url(self) -> str:
        return self.address(page=self.page.previous_page_number())

    @property
    def next_url(self) -> str:
        return self.address(page=self.page.next_page_number())

    @property
    def clear_url(self) -> str:
        """The same list without its filter, in the same order."""
        query = QueryDict(mutable=True)
        if f"{self.prefix}sort" in self.query:
            query[f"{self.prefix}sort"] = self.query.get(f"{self.prefix}sort", "")
        return f"?{query.urlencode()}"

    @property
    def kept(self) -> list[tuple[str, str]]:
        """What the filter's form carries in hidden fields: all but its own values and the page."""
        own = {f"{self.prefix}page", *(self.form.fields if self.form else ())}
        return [(name, value) for name in self.query if name not in own
                for value in self.query.getlist(name)]  # fmt: skip

    def address(self, **changes: str | int | None) -> str:
        """This address with ``sort`` or ``page`` changed; None takes it out."""
        query = self.query.copy()
        for name, value in changes.items():
            query.pop(f"{self.prefix}{name}", None)
            if value is not None:
                query[f"{self.prefix}{name}"] = str(value)
        return f"?{query.urlencode()}"

    def column(self, name: str) -> Column:
        return next(column for column in self.columns if column.name == name)


def _ordered(field: str, is_descending: bool, is_sparse: bool = False) -> OrderBy:
    expression = F(field.removeprefix("-"))
    nulls_last = True if is_sparse else None
    if is_descending != field.startswith("-"):
        return expression.desc(nulls_last=nulls_last)
    return expression.asc(nulls_last=nulls_last)


def _sorted(rows: Sequence[Any], fields: Sequence[str], is_descending: bool) -> list[Any]:
    """By these attributes in this order; what is None comes last, ties stay as they were."""
    done = list(rows)
    for field in reversed(fields):
        name = field.removeprefix("-")
        downwards = is_descending != field.startswith("-")
        there = [row for row in done if getattr(row, name) is not None]
        there.sort(key=attrgetter(name), reverse=downwards)
        done = there + [row for row in done if getattr(row, name) is None]
    return done
