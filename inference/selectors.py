"""Shared reads of the registry that are not on the token path."""

from __future__ import annotations

from inference.models import Deployment, Model


def get_example_chat_model() -> str | None:
    """Name of a chat model that is being served, for snippets that work as pasted."""
    return (
        Deployment.objects.filter(
            is_enabled=True,
            version__model__is_enabled=True,
            version__model__kind=Model.Kind.CHAT,
        )
        .order_by("created_at", "pk")
        .values_list("version__model__name", flat=True)
        .first()
    )
