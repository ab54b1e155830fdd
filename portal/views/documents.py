"""Documentation for everybody, logged in or not: quick start, pages of ``docs/``, their search."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from inference.selectors import get_example_chat_model
from portal import documents
from portal.documents import BY_SLUG, DOCUMENTS
from portal.snippets import chat_samples

LONGEST_QUERY = 100


@require_safe
def quick_start(request: HttpRequest) -> HttpResponse:
    samples = chat_samples(settings.SLUICE_URL, get_example_chat_model() or "")
    return _render(request, "docs/quick_start.html", {"samples": samples}, here="quick-start")


@require_safe
def show_document(request: HttpRequest, slug: str) -> HttpResponse:
    document = BY_SLUG.get(slug)
    if document is None:
        raise Http404
    page = documents.read(document)
    second = [heading for heading in page.headings if heading.level == 2]
    return _render(
        request,
        "docs/document.html",
        {"document": document, "page": page, "ways": second},
        here=slug,
    )


@require_safe
def search_documents(request: HttpRequest) -> HttpResponse:
    query = request.GET.get("q", "").strip()[:LONGEST_QUERY].replace("\0", "")
    context = {"query": query, "hits": documents.search(query)}
    return _render(request, "docs/search.html", context, here="search")


def _render(
    request: HttpRequest, template: str, context: dict[str, Any], *, here: str
) -> HttpResponse:
    return render(request, template, {"documents": DOCUMENTS, "here": here} | context)
