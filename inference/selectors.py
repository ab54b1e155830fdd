"""Shared reads of the registry that are not on the token path."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import F, Q, QuerySet

from inference.models import Deployment, Model, ModelVersion
from tenants.models import Organization


@dataclass(frozen=True)
class Offer:
    """A model that is served, as far as somebody who calls it has to know it."""

    name: str
    names: tuple[str, ...]  # with its aliases
    kind: str
    max_context_tokens: int
    calls_tools: bool
    reasons: bool


def get_offers(organization: Organization) -> list[Offer]:
    """Models that deployments serve for this organization, by name.

    Which of them a project or a key may use is its principal's to say (``may_use``).
    """
    deployments = (
        Deployment.objects.filter(is_enabled=True, version__model__is_enabled=True)
        .filter(Q(dedicated_to=None) | Q(dedicated_to=organization))
        .select_related("version__model")
        .prefetch_related("version__model__aliases")
        # Its own deployments lead, as they do for its requests.
        .order_by("version__model__name", F("dedicated_to").asc(nulls_last=True), "pk")
    )
    offers: dict[str, Offer] = {}
    for deployment in deployments:
        offer = _offer(deployment.version)
        offers.setdefault(offer.name, offer)
    return list(offers.values())


def _offer(version: ModelVersion) -> Offer:
    model = version.model
    return Offer(
        name=model.name,
        names=(model.name, *(alias.name for alias in model.aliases.all())),
        kind=model.kind,
        max_context_tokens=version.max_context_tokens,
        calls_tools=bool(version.tool_parser),
        reasons=bool(version.reasoning_parser),
    )


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
