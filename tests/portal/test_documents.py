"""Documentation for everybody: pages of docs/, safe, linked among themselves, searched."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from api.document.errors import CATALOGUE
from inference.models import Deployment, Model, ModelVersion
from portal import documents
from portal.documents import DOCUMENTS, Document, link_of, part_of
from portal.markdown import render
from tests.cast import Cast
from tests.portal.conftest import log_in

pytestmark = pytest.mark.django_db
PAGES = ["/docs/", "/docs/api/", *(f"/docs/{each.slug}/" for each in DOCUMENTS)]


@pytest.mark.parametrize("path", PAGES)
def test_everybody_may_read(path: str) -> None:
    page = Client().get(path)
    assert page.status_code == 200
    html = page.content.decode()
    assert html.count("<h1") == (0 if path == "/docs/api/" else 1)
    assert "&lt;!--" not in html, "comments are not for readers"
    # The reference's own list of what it holds takes the place of the others' names.
    for other in ["/docs/"] if path == "/docs/api/" else PAGES:
        assert f'href="{other}"' in html
    assert "Log in" in html


def test_links_among_pages_lead_to_what_is_there() -> None:
    client = Client()
    anchors = {}
    for path in PAGES:
        html = client.get(path).content.decode()
        anchors[path] = set(re.findall(r' id="([^"]+)"', html))
    followed = 0
    for document in DOCUMENTS:
        path = f"/docs/{document.slug}/"
        for target in re.findall(r'href="([^"]*#[^"]*)"', documents.read(document).html):
            page, _, fragment = target.partition("#")
            if "://" in page:
                continue
            assert fragment in anchors[page or path], (path, target)
            followed += 1
    assert followed > 20


def test_errors_and_limits_are_those_of_the_code() -> None:
    html = Client().get("/docs/errors/").content.decode()
    for each in CATALOGUE:
        if each.code:
            assert f"<code>{each.code}</code>" in html
    assert "4 MiB" in Client().get("/docs/limits/").content.decode()


def test_what_is_published_nowhere_is_no_link() -> None:
    guide = documents.BY_SLUG["guide"]
    assert link_of(guide, "rooms/tenants.md#outbound-requests") is None
    assert link_of(guide, "limits.md#x") == "/docs/limits/#x"
    assert link_of(guide, "../config/settings.py") is None
    assert link_of(guide, "https://example.com/") == "https://example.com/"
    assert link_of(guide, "ftp://example.com/") is None
    assert link_of(documents.BY_SLUG["errors"], "#headers") == "/docs/guide/#headers"
    assert link_of(documents.BY_SLUG["changelog"], "docs/guide.md") == "/docs/examples/"
    for path in ("/docs/settings/", "/docs/../config/", "/docs/nothing/"):
        assert Client().get(path).status_code == 404


HOSTILE = """# A <script>alert(1)</script> title

<img src=x onerror=alert(1)> and <!-- hidden --> [a](javascript:alert(1)) [b](data:text/html,x)
![c](javascript:alert(1))

```sh
echo "<b>" && true
```

| <i> | b |
| --- | --- |
| 1 | <svg onload=alert(1)> |
"""


def test_what_a_page_holds_cannot_act() -> None:
    page = render(HOSTILE, lambda target: target if target.startswith("https:") else None)
    for active in ("<script", "<img", "<svg", "onload=alert(1)>", "href=", "hidden", "<b>", "<i>"):
        assert active not in page.html, active
    assert "&lt;script&gt;" in page.html
    assert 'data-copy="code-1"' in page.html
    assert page.title == "A <script>alert(1)</script> title"


def test_headings_of_one_name_are_told_apart_as_at_github() -> None:
    page = render("# A\n## `x` of B, c\n## Same\n### Same\n## !", str)
    assert [each.slug for each in page.headings] == ["a", "x-of-b-c", "same", "same-1", "section"]


def test_a_page_is_read_again_when_it_changes(tmp_path: Path, settings: Any) -> None:
    settings.BASE_DIR = tmp_path
    page = Document("x", "X", "x.md")
    (tmp_path / "x.md").write_text("# One")
    assert documents.read(page).title == "One"
    assert documents.read(page) is documents.read(page)
    (tmp_path / "x.md").write_text("# Another")
    assert documents.read(page).title == "Another"
    with pytest.raises(LookupError):
        part_of("# One\n", "Nothing")


def test_the_search_finds_sections_by_every_word() -> None:
    client = Client()
    found = client.get("/docs/search/", {"q": "idempotency-key"})
    first = found.context["hits"][0]
    assert "Idempotency-Key" in first.title
    assert first.url.endswith("#idempotency-key")
    assert client.get("/docs/search/", {"q": "batches zyzzyva"}).context["hits"] == []
    assert len(client.get("/docs/search/", {"q": "the"}).context["hits"]) == documents.MOST_FOUND
    for odd in ("", "\x00", "é" * 5_000, "<script>alert(1)</script>", "%", "  "):
        page = client.get("/docs/search/", {"q": odd})
        assert page.status_code == 200
        assert "<script>alert" not in page.content.decode()


def test_the_quick_start_names_a_model_that_everybody_is_served(cast: Cast) -> None:
    for name, owner in (("secret-model", cast.other_organization), ("open-model", None)):
        model = Model.objects.create(name=name, kind="chat")
        version = ModelVersion.objects.create(
            model=model, version="1", source_uri="pypi://x", max_context_tokens=64
        )
        Deployment.objects.create(name=name, version=version, dedicated_to=owner)
    html = Client().get("/docs/").content.decode()
    assert "open-model" in html
    assert "secret-model" not in html
    assert "Portal" in log_in(cast.owner).get("/docs/").content.decode()


def test_the_palette_knows_the_documentation(cast: Cast) -> None:
    address = f"/o/{cast.organization.public_id}/find/?q=changelog&format=json"
    groups = log_in(cast.viewer).get(address).json()["groups"]
    assert [item["url"] for group in groups for item in group["items"]] == ["/docs/changelog/"]
