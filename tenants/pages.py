"""Lists by cursor: a page begins after (or ends before) an object that the caller names.

By key and never by offset: rows that are added meanwhile move nothing, and the
hundredth page costs what the first one does. Two queries a page: the cursor's row,
and one row more than asked for, which says whether there is more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from django.db.models import F, Model, Q, QuerySet

from tenants.errors import InvalidInput

M = TypeVar("M", bound=Model)


@dataclass(frozen=True)
class Cursor:
    """Where a page lies; ``after`` and ``before`` are identifiers that clients know."""

    limit: int
    after: str | None = None
    before: str | None = None
    is_descending: bool = False


@dataclass(frozen=True)
class Listed(Generic[M]):
    rows: list[M]
    has_more: bool
    name: str  # the path from a row to the identifier that clients know it by

    def id_of(self, row: M) -> str:
        value: Any = row
        for part in self.name.split("__"):
            value = getattr(value, part)
        return str(value)


def list_page(
    rows: QuerySet[M],
    cursor: Cursor,
    *,
    among: QuerySet[M] | None = None,
    name: str = "public_id",
    key: tuple[str, ...] = ("pk",),
    is_wide: bool = False,
) -> Listed[M]:
    """A page of ``rows``, in the order of ``key``, whose last part is unique.

    ``is_wide`` chooses the page's rows first and joins to those only: row security makes
    PostgreSQL expect few rows, and it joins to all ten thousand before it takes twenty.

    The cursor's row is looked for in ``among``, so that one that left ``rows`` since
    (an archived project) still marks its place.
    """
    backwards = cursor.before is not None and cursor.after is None
    descending = cursor.is_descending != backwards
    for param in ("after", "before"):
        if anchor := getattr(cursor, param):
            place = _place_of(rows if among is None else among, anchor, param, name, key)
            rows = rows.filter(_beyond(key, place, cursor.is_descending == (param == "after")))
    order = [F(part).desc() if descending else F(part).asc() for part in key]
    rows = rows.order_by(*order)
    if is_wide:
        chosen = list(rows.values_list("pk", flat=True)[: cursor.limit + 1])
        found = list(rows.filter(pk__in=chosen))
    else:
        found = list(rows[: cursor.limit + 1])
    has_more = len(found) > cursor.limit
    found = found[: cursor.limit]
    return Listed(found[::-1] if backwards else found, has_more, name)


def _place_of(
    rows: QuerySet[Any], anchor: str, param: str, name: str, key: tuple[str, ...]
) -> tuple[Any, ...]:
    place = rows.filter(**{name: anchor}).order_by().values_list(*key).first()
    if place is None:
        raise InvalidInput("There is no such object to list from.", param=param)
    return place


def _beyond(key: tuple[str, ...], place: tuple[Any, ...], is_smaller: bool) -> Q:
    """Rows whose ``key`` is smaller (or greater) than ``place``, part by part."""
    verb = "lt" if is_smaller else "gt"
    condition = Q()
    for index, part in enumerate(key):
        equal = dict(zip(key[:index], place[:index], strict=True))
        condition |= Q(**equal, **{f"{part}__{verb}": place[index]})
    if len(key) > 1:  # what an index can begin at, which no OR tells it
        condition &= Q(**{f"{key[0]}__{verb}e": place[0]})
    return condition


def list_names(names: list[str], cursor: Cursor) -> tuple[list[str], bool]:
    """The same of a short list in memory: the page's names, and whether there are more."""
    begin, end = 0, len(names)
    for param in ("after", "before"):
        if anchor := getattr(cursor, param):
            if anchor not in names:
                raise InvalidInput("There is no such object to list from.", param=param)
            begin, end = (
                (names.index(anchor) + 1, end) if param == "after" else (begin, names.index(anchor))
            )
    chosen = names[begin:end]
    if cursor.before and not cursor.after:
        return chosen[-cursor.limit :], len(chosen) > cursor.limit
    return chosen[: cursor.limit], len(chosen) > cursor.limit
