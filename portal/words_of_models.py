"""What models do and how they fare, in words. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from django.utils.functional import Promise
from django.utils.translation import gettext, gettext_lazy, ngettext

from inference import catalogue
from inference.models import Model

KINDS: dict[str, str | Promise] = {
    Model.Kind.CHAT: gettext_lazy("Chat"),
    Model.Kind.EMBEDDING: gettext_lazy("Embeddings"),
}
CAPABILITIES: dict[str, str | Promise] = {
    catalogue.CHAT: gettext_lazy("Chat"),
    catalogue.COMPLETIONS: gettext_lazy("Completions"),
    catalogue.STRUCTURED: gettext_lazy("Structured output"),
    catalogue.TOOLS: gettext_lazy("Tools"),
    catalogue.REASONING: gettext_lazy("Reasoning"),
    catalogue.EMBEDDINGS: gettext_lazy("Embeddings"),
    catalogue.RERANK: gettext_lazy("Rerank"),
    catalogue.SCORE: gettext_lazy("Score"),
}
# Where each is called; what has no address of its own is a parameter of chats.
ENDPOINTS = {
    catalogue.CHAT: ("/v1/chat/completions", "/v1/responses", "/v1/messages"),
    catalogue.COMPLETIONS: ("/v1/completions",),
    catalogue.EMBEDDINGS: ("/v1/embeddings",),
    catalogue.RERANK: ("/v1/rerank",),
    catalogue.SCORE: ("/v1/score",),
}


@dataclass(frozen=True)
class Status:
    label: str
    tone: str  # a badge's
    note: str = ""


def status_of(ready: int | None, fallback: str) -> Status:
    """By the number of replicas that are ready; None: nobody can tell."""
    if ready is None:
        return Status(gettext("Unknown"), "", gettext("The fleet cannot be heard right now."))
    if ready:
        counted = ngettext("%(count)d replica ready", "%(count)d replicas ready", ready)
        return Status(gettext("Available"), "good", counted % {"count": ready})
    if fallback:
        told = gettext("Its fallback %(model)s answers where you allow it.") % {"model": fallback}
        return Status(gettext("Unavailable"), "warn", told)
    return Status(gettext("Unavailable"), "bad", gettext("No replica is ready."))
