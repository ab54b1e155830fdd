"""The models that an organization may call, for people to choose from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.db.models import F, Q

from inference.errors import BadSource, FleetUnreachable
from inference.models import Deployment, Model, ModelVersion
from inference.replicas import get_live_replicas
from inference.store.facts import is_cross_encoder
from tenants.errors import NotFound
from tenants.models import Organization

# What a model does, by the words of ``Listed.capabilities``.
CHAT, COMPLETIONS, TOOLS, STRUCTURED, REASONING = (
    "chat",
    "completions",
    "tools",
    "structured",
    "reasoning",
)
EMBEDDINGS, RERANK, SCORE = "embeddings", "rerank", "score"


@dataclass(frozen=True)
class Listed:
    """A model with the version that answers first; figures of its deployments are together."""

    name: str
    aliases: tuple[str, ...]
    kind: str
    description: str
    owned_by: str
    fallback: str
    max_context_tokens: int
    embedding_dimensions: int | None
    capabilities: tuple[str, ...]
    version: str
    sha256: str
    regions: tuple[str, ...]
    deployments: frozenset[int]  # primary keys
    is_dedicated: bool  # to this organization

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name, *self.aliases)


def get_catalogue(organization: Organization) -> list[Listed]:
    """By name; what is dedicated to others is not there.

    A project or a key may be held to fewer (``Principal.may_use``).
    """
    deployments = (
        Deployment.objects.filter(is_enabled=True, version__model__is_enabled=True)
        .filter(Q(dedicated_to=None) | Q(dedicated_to=organization))
        .select_related("version__model__fallback")
        .prefetch_related("version__model__aliases")
        # Its own deployments lead, as they do for its requests.
        .order_by("version__model__name", F("dedicated_to").asc(nulls_last=True), "pk")
    )
    of_model: dict[str, list[Deployment]] = {}
    for deployment in deployments:
        of_model.setdefault(deployment.version.model.name, []).append(deployment)
    return [_listed(found) for found in of_model.values()]


def access_listed(organization: Organization, name: str) -> Listed:
    """By its name or an alias; NotFound where this organization is not served it."""
    for listed in get_catalogue(organization):
        if name in listed.names:
            return listed
    raise NotFound("No such model.", param="model")


def get_ready_replicas() -> Counter[int] | None:
    """How many are ready, by deployment; None while nobody can tell."""
    try:
        replicas = get_live_replicas()
    except FleetUnreachable:
        return None
    return Counter(each.beat.deployment for each in replicas if each.beat.state == "ready")


def _listed(deployments: list[Deployment]) -> Listed:
    version = deployments[0].version
    model = version.model
    return Listed(
        name=model.name,
        aliases=tuple(alias.name for alias in model.aliases.all()),
        kind=model.kind,
        description=model.description,
        owned_by=model.owned_by,
        fallback=model.fallback.name if model.fallback else "",
        max_context_tokens=version.max_context_tokens,
        embedding_dimensions=version.embedding_dimensions,
        capabilities=tuple(_capabilities(version)),
        version=version.version,
        sha256=version.sha256,
        regions=tuple(dict.fromkeys(each.region for each in deployments)),
        deployments=frozenset(each.pk for each in deployments),
        is_dedicated=deployments[0].dedicated_to_id is not None,
    )


def _capabilities(version: ModelVersion) -> Iterator[str]:
    if version.model.kind == Model.Kind.CHAT:
        yield from (CHAT, COMPLETIONS, STRUCTURED)
        if version.tool_parser:
            yield TOOLS
        if version.reasoning_parser:
            yield REASONING
        return
    if not _only_scores(version):
        yield EMBEDDINGS
    yield from (RERANK, SCORE)


def _only_scores(version: ModelVersion) -> bool:
    """A cross-encoder scores pairs of texts, and embeds none."""
    try:
        return bool(version.path) and is_cross_encoder(Path(settings.MODEL_STORE) / version.path)
    except (BadSource, OSError):  # a page is not where a broken store is found
        return False
