"""Lists that sort, filter and page by their address: the class, without a page around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from django import forms
from django.http import QueryDict
from django.template import Context, Template

from portal.tables import Column, Table
from tenants.models import Plan
from tests.cast import default_plan


class Search(forms.Form):
    q = forms.CharField(required=False)
    least = forms.IntegerField(required=False)


class Planets(Table):
    columns = (
        Column("name", "Name", ("name",), is_primary=True),
        Column("moons", "Moons", ("moons", "name"), True, is_number=True),
        Column("note", "Note"),
    )
    sort = "name"
    page_size = 3
    everything = (("Mars", 2), ("Earth", 1), ("Venus", None), ("Saturn", 274), ("Pluto", 5))

    def get_rows(self, chosen: Mapping[str, Any]) -> Sequence[Any]:
        return [
            SimpleNamespace(name=name, moons=moons)
            for name, moons in self.everything
            if chosen.get("q", "") in name and (moons or 0) >= chosen.get("least", 0)
        ]


def planets(query: str = "", *, prefix: str = "") -> Planets:
    got = QueryDict(query)
    return Planets(SimpleNamespace(GET=got), form=Search(got), prefix=prefix)


def names(table: Table) -> list[str]:
    return [row.name for row in table.rows]


def test_the_address_decides_order_and_page() -> None:
    assert names(planets()) == ["Earth", "Mars", "Pluto"]
    assert names(planets("page=2")) == ["Saturn", "Venus"]
    assert names(planets("sort=-name")) == ["Venus", "Saturn", "Pluto"]
    assert names(planets("sort=-moons")) == ["Saturn", "Pluto", "Mars"]
    assert names(planets("sort=moons&page=2")) == ["Saturn", "Venus"], "the unknown comes last"


@pytest.mark.parametrize("query", ["sort=note", "sort=pk", "sort=--name", "sort=%00", "page=x"])
def test_what_cannot_be_sorted_by_is_ignored(query: str) -> None:
    assert names(planets(query)) == ["Earth", "Mars", "Pluto"]


def test_a_page_beyond_the_last_is_the_last() -> None:
    assert names(planets("page=99")) == ["Saturn", "Venus"]


def test_heads_say_and_turn_the_order() -> None:
    name, moons, note = planets("sort=name&page=2&q=a").heads
    assert (name.sorted, name.url) == ("ascending", "?q=a&sort=-name")
    assert (moons.sorted, moons.url) == ("", "?q=a&sort=-moons"), "amounts begin with the most"
    assert (note.sorted, note.url) == ("", "")


def test_filters_are_kept_and_cleared() -> None:
    table = planets("q=a&least=2&sort=-moons&page=1")
    assert names(table) == ["Saturn", "Mars"]
    assert table.is_filtered
    assert table.kept == [("sort", "-moons")]
    assert table.clear_url == "?sort=-moons"


def test_a_wrong_filter_is_told_and_filters_nothing() -> None:
    table = planets("least=many")
    assert len(table.rows) == 3
    assert table.form.errors["least"]
    assert not table.is_filtered


def test_two_tables_of_a_page_do_not_meet() -> None:
    table = planets("sort=-name&b-page=2", prefix="b")
    assert names(table) == ["Saturn", "Venus"]
    assert table.previous_url == "?sort=-name&b-page=1"


@pytest.mark.django_db
def test_a_query_set_is_sorted_by_the_database_with_a_tie_that_holds() -> None:
    default_plan()
    for number in range(4):
        Plan.objects.create(slug=f"p{number}", name="Same")

    class Plans(Table):
        columns = (Column("name", "Name", ("name",)),)
        sort = "name"
        page_size = 2

        def get_rows(self, chosen: Mapping[str, Any]) -> Any:
            return Plan.objects.filter(name="Same")

    pages = [
        [plan.slug for plan in Plans(SimpleNamespace(GET=QueryDict(f"page={page}"))).rows]
        for page in (1, 2)
    ]
    assert pages == [["p0", "p1"], ["p2", "p3"]]


def test_the_tag_writes_cells_as_their_columns_say_and_escapes() -> None:
    template = Template(
        "{% load ui %}{% table planets row='planet' label='Planets' %}"
        "{% cell 'name' %}{{ planet.name }}{% endcell %}{% cell 'moons' %}{{ planet.moons }}{% endcell %}"
        "{% cell 'note' %}-{% endcell %}{% empty %}Nothing{% endtable %}"
    )
    table = planets()
    table.everything = (("<b>Mars</b>", 2),)
    html = template.render(Context({"planets": table}))
    assert '<td class="primary-cell" data-label="Name">&lt;b&gt;Mars&lt;/b&gt;</td>' in html
    assert '<td class="number" data-label="Moons">2</td>' in html
    assert 'aria-sort="ascending"' in html
    assert template.render(Context({"planets": planets("q=Neptune")})) == "Nothing"
