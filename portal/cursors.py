"""Pages of a list by cursor, as an address asks for them: ``?after=…`` or ``?before=…``."""

from __future__ import annotations

from typing import Any, TypeVar

from django.db.models import Model, QuerySet
from django.http import HttpRequest

from tenants.errors import InvalidInput
from tenants.pages import Cursor, Listed, list_page

M = TypeVar("M", bound=Model)
# The longest identifier of anything that is listed.
MOST_IDENTIFIER = 60


def page_of(
    request: HttpRequest,
    rows: QuerySet[M],
    *,
    among: QuerySet[M],
    size: int,
    key: tuple[str, ...],
    name: str = "public_id",
) -> Listed[M]:
    """Descending; the first page where the cursor is of no row ``among`` these."""
    places: dict[str, Any] = {
        place: request.GET.get(place, "")[:MOST_IDENTIFIER].replace("\0", "") or None
        for place in ("after", "before")
    }
    try:
        cursor = Cursor(size, is_descending=True, **places)
        return list_page(rows, cursor, among=among, key=key, name=name)
    except InvalidInput:
        return list_page(rows, Cursor(size, is_descending=True), key=key, name=name)


def neighbours(request: HttpRequest, listed: Listed[Any]) -> dict[str, str]:
    """Identifiers from which the older and the newer page begin, empty where there is none."""
    is_backwards = bool(request.GET.get("before")) and not request.GET.get("after")
    has_newer = listed.has_more if is_backwards else bool(request.GET.get("after"))
    has_older = True if is_backwards else listed.has_more
    rows = listed.rows
    return {
        "newer": listed.id_of(rows[0]) if rows and has_newer else "",
        "older": listed.id_of(rows[-1]) if rows and has_older else "",
    }
