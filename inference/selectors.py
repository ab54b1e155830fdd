"""Shared reads of the registry that are not on the token path."""

from __future__ import annotations

from django.db.models import QuerySet

from inference.models import Deployment, Model, ModelVersion


def get_example_chat_model() -> str | None:
    """Name of a chat model that everybody is served, for snippets that work as pasted."""
    return (
        Deployment.objects.filter(
            is_enabled=True,
            dedicated_to=None,
            version__model__is_enabled=True,
            version__model__kind=Model.Kind.CHAT,
        )
        .order_by("created_at", "pk")
        .values_list("version__model__name", flat=True)
        .first()
    )


def get_undeployed_versions() -> QuerySet[ModelVersion]:
    """The newest pulled version of each enabled model that no deployment serves in any version.

    A newer version of a model that is served is not among them: to switch is staff's decision.
    """
    return (
        ModelVersion.objects.filter(model__is_enabled=True)
        .exclude(pulled_at=None)
        .exclude(model__in=Deployment.objects.values("version__model"))
        .select_related("model")
        .order_by("model__name", "-created_at", "-pk")
        .distinct("model__name")
    )


def get_model_names() -> list[str]:
    """Public names of the models that clients may ask for, for lists to choose from."""
    return list(
        Model.objects.filter(is_enabled=True).order_by("name").values_list("name", flat=True)
    )
