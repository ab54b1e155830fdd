"""Lists and searches of the staff admin that stay quick among a million rows.

No list counts its rows further than a person would page, and a search asks indexes
only: what looks like an identifier is compared as one, an e-mail address leads to its
user, and anything else is how a name begins (migration 0006 has the indexes). Rows
come in the order of an index; a click on a column's head would sort all of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from django.core.paginator import Paginator
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.functional import cached_property
from unfold.admin import ModelAdmin

from tenants.models import Organization, User

# Two hundred pages, of which the last skips rows for 40 ms; whoever wants more filters.
MOST_COUNTED = 5_000
_IDENTIFIER = re.compile(r"[a-z]+_[0-9A-Za-z]{16}")


class CappedPaginator(Paginator):
    """Says 5,000 for more: counting a million rows takes longer than showing a page."""

    @cached_property
    def count(self) -> int:
        return int(self.object_list[:MOST_COUNTED].count())  # type: ignore[attr-defined]


class ListAdmin(ModelAdmin):  # type: ignore[misc]
    """``search_beginnings`` are fields with an index on their upper case; ``search_exactly``
    are fields for identifiers besides ``public_id``; ``search_person`` is the path to a
    user, who is found by their e-mail address. Without any of them Django searches."""

    list_per_page = 25  # a row takes 1.5 ms to render
    show_full_result_count = False
    list_fullwidth = True
    paginator = CappedPaginator
    search_beginnings: tuple[str, ...] = ()
    search_exactly: tuple[str, ...] = ()
    search_person = ""

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        term = search_term.strip()
        if not term or not (self.search_beginnings or self.search_exactly or self.search_person):
            return super().get_search_results(request, queryset, search_term)
        return queryset.filter(self._meaning(term)), False

    def _meaning(self, term: str) -> Q:
        fields = {field.name for field in self.model._meta.concrete_fields}
        if _IDENTIFIER.fullmatch(term):
            return self._identified(term, fields)
        if "@" in term and self.search_person:
            # First the user, then their rows: a join would read every row to find none.
            users = User.objects.filter(email=term.lower()).values_list("pk", flat=True)
            return Q(**{f"{self.search_person}__in": list(users)})
        return _any(Q(**{name: term}) for name in self.search_exactly) | _any(
            Q(**{f"{name}__istartswith": term}) for name in self.search_beginnings
        )

    def _identified(self, term: str, fields: set[str]) -> Q:
        if term.startswith("org_") and "organization" in fields:
            found = Organization.objects.filter(public_id=term).values_list("pk", flat=True)
            return Q(organization__in=list(found))
        return _any(Q(**{name: term}) for name in {*self.search_exactly, *({"public_id"} & fields)})


def _any(conditions: Iterable[Q]) -> Q:
    """Nothing, if there are none: an empty Q would find everything."""
    found = list(conditions)
    return Q(*found, _connector=Q.OR) if found else Q(pk__in=())
