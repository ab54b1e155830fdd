"""The search of the command palette, and the navigation that it shares."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.conf import settings
from django.test import Client

from portal import navigation
from portal.templatetags.ui import icon
from tenants import actions
from tenants.keys import lookup_of
from tenants.models import ApiKey
from tests.cast import Cast
from tests.portal.conftest import log_in

pytestmark = pytest.mark.django_db


def find(cast: Cast, client: Client, query: str = "") -> dict[str, list[dict[str, str]]]:
    page = client.get(f"/o/{cast.organization.public_id}/find/", {"q": query, "format": "json"})
    assert page.status_code == 200
    return {group["title"]: group["items"] for group in page.json()["groups"]}


def test_without_a_word_it_is_a_map_of_what_one_may_see(cast: Cast) -> None:
    owner = {each["label"] for each in find(cast, log_in(cast.owner))["Pages"]}
    viewer = {each["label"] for each in find(cast, log_in(cast.viewer))["Pages"]}
    assert {"Overview", "API keys", "Create an API key", "Admin keys"} <= owner
    assert "Overview" in viewer
    assert not viewer & {"Create an API key", "Admin keys", "Audit log"}


@pytest.mark.parametrize("who", ["owner", "admin", "member", "billing", "viewer"])
def test_whatever_is_offered_opens(cast: Cast, who: str) -> None:
    client = log_in(getattr(cast, who))
    found = find(cast, client)
    for each in [*found["Pages"], *found["Documentation"]]:
        assert client.get(each["url"]).status_code == 200, each
    sidebar = client.get(f"/o/{cast.organization.public_id}/").content.decode()
    for address in re.findall(r'<li><a href="([^"]+)"', sidebar):
        assert client.get(address).status_code == 200, address


def test_projects_and_keys_are_found_by_name_and_last_four(cast: Cast) -> None:
    project = actions.create_project(cast.organization, "Nightly index", acting_user=cast.owner)
    actions.create_api_key(project, "Indexer <b>", acting_user=cast.owner)
    client = log_in(cast.owner)
    found = find(cast, client, "index")
    assert [each["hint"] for each in found["Projects"]] == [project.public_id]
    assert [each["label"] for each in found["API keys"]] == ["Indexer <b>"]
    key = ApiKey.objects.get(lookup=lookup_of(cast.owner_key))
    by_ending = find(cast, client, key.last_four)["API keys"]
    assert [each["url"].rstrip("/").rpartition("/")[2] for each in by_ending] == [key.public_id]
    page = client.get(f"/o/{cast.organization.public_id}/find/", {"q": "index"}).content.decode()
    assert "Indexer &lt;b&gt;" in page and "<b>" not in page


def test_nothing_of_another_organization_is_found(cast: Cast) -> None:
    assert "API keys" not in find(cast, log_in(cast.owner), "Stranger")
    assert "API keys" in find(cast, log_in(cast.owner), "Owner's")
    address = f"/o/{cast.organization.public_id}/find/?format=json&q=Owner"
    assert log_in(cast.stranger).get(address).status_code == 404
    assert Client().get(address).status_code == 302


def test_who_sees_no_keys_finds_none(cast: Cast) -> None:
    assert "API keys" not in find(cast, log_in(cast.billing), "Owner's")


@pytest.mark.parametrize("query", ["\0", "%", "'; DROP", "x" * 5000, "🔑"])
def test_odd_queries_are_answered(cast: Cast, query: str) -> None:
    assert "API keys" not in find(cast, log_in(cast.owner), query)


def test_every_icon_that_is_named_exists() -> None:
    named = set()
    for path in Path(settings.BASE_DIR / "templates").rglob("*.html"):
        named |= set(re.findall(r'{% icon "([^"]+)" %}|icon="([^"]+)"', path.read_text()))
    names = {first or second for first, second in named}
    places = [*navigation.ELSEWHERE, *(p for group in navigation.GROUPS for p in group.places)]
    for name in sorted(names | {place.icon for place in places}):
        assert "<svg" in icon(name), name
