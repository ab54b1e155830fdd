"""The search of the command palette: pages, projects, keys and documentation, by a few letters.

One address answers both ways: JSON for the palette, a page for whoever has no script.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_safe

from portal import documents, navigation
from portal.pages import organization_page, render_page
from portal.reach import reach_of
from portal.templatetags.portal import masked
from tenants import selectors
from tenants.models import Membership

# A palette is read at a glance; whoever has more finds the list's own page and filter.
MOST_OF_A_KIND = 6
LONGEST_QUERY = 100


@dataclass(frozen=True)
class Found:
    label: str
    url: str
    icon: str
    hint: str = ""


@dataclass(frozen=True)
class FoundGroup:
    title: str
    items: list[Found]


# Addresses are made when they are asked for: the URLs are not there yet at import.
DOCUMENTS: tuple[tuple[str, tuple[str, ...], str | Promise, str], ...] = (
    ("docs", (), gettext_lazy("Quick start"), "documentation first key"),
    ("api_docs", (), gettext_lazy("API reference"), "rest openapi endpoints"),
    *(("document", (each.slug,), each.label, each.words) for each in documents.DOCUMENTS),
)


@require_safe
@organization_page("organization.read")
def find(request: HttpRequest, membership: Membership) -> HttpResponse:
    query = request.GET.get("q", "").strip()[:LONGEST_QUERY].replace("\0", "")
    groups = [group for group in _search(membership, query) if group.items]
    if request.GET.get("format") == "json":
        return JsonResponse({"groups": [asdict(group) for group in groups]})
    context = {"query": query, "groups": groups}
    return render_page(request, membership, "portal/find.html", context, tab="")


def _search(membership: Membership, query: str) -> Iterable[FoundGroup]:
    """Without a query every page, so that the palette opens as a map."""
    yield FoundGroup(_("Pages"), _pages(membership, query))
    if query:
        yield FoundGroup(_("Projects"), _projects(membership, query))
        yield FoundGroup(_("API keys"), _keys(membership, query))
    yield FoundGroup(_("Documentation"), _documents(query))


def _pages(membership: Membership, query: str) -> list[Found]:
    return [
        Found(str(link.label), link.url, link.icon)
        for link in navigation.everything(membership)
        if _has_words(f"{link.label} {link.words}", query)
    ]


def _documents(query: str) -> list[Found]:
    return [
        Found(str(label), reverse(name, args=arguments), "book-open")
        for name, arguments, label, words in DOCUMENTS
        if _has_words(f"{label} {words}", query)
    ]


def _has_words(text: str, query: str) -> bool:
    return all(word in text.lower() for word in query.lower().split())


def _projects(membership: Membership, query: str) -> list[Found]:
    reach = reach_of(membership, "project.read")
    if not reach:
        return []
    found = selectors.get_projects(membership.organization, projects=reach.only)
    address = _address_of(membership, "project")
    return [
        Found(project.name, address(project.public_id), "folder", project.public_id)
        for project in found.filter(name__icontains=query)[:MOST_OF_A_KIND]
    ]


def _keys(membership: Membership, query: str) -> list[Found]:
    reach = reach_of(membership, "key.read")
    if not reach:
        return []
    found = selectors.get_api_keys(membership.organization, projects=reach.only, search=query)[
        :MOST_OF_A_KIND
    ]
    address = _address_of(membership, "key")
    return [Found(key.name, address(key.public_id), "key-round", masked(key)) for key in found]


def _address_of(membership: Membership, name: str) -> Callable[[str], str]:
    return lambda public_id: reverse(name, args=[membership.organization.public_id, public_id])
