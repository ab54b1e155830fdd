"""What is served, as an in-memory snapshot that every request resolves against.

Read from PostgreSQL at start, on every NOTIFY of a change and twice a minute;
requests never query it. A version's prompt renderer is loaded with it, so a
snapshot is complete before the first request sees it.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, field
from pathlib import Path

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import connection

from inference.errors import ModelNotFound, StoreError
from inference.models import Deployment, Model, ModelAlias, ModelVersion, RoutingPolicy
from inference.prompts import PromptRenderer
from inference.routing import Weights
from inference.store.facts import is_cross_encoder, matryoshka_dimensions
from tenants.postgres.listening import keep_fresh

log = logging.getLogger(__name__)

CHANNEL = "registry_changed"
REFRESH_S = 30.0
RESOLVED_KEPT = 20_000  # some 200 bytes each
# A version's folder is somebody else's data: beside what reading it says it raises,
# what JSON of another shape and text of another encoding make of its readers.
_UNREADABLE = (StoreError, OSError, ValueError, LookupError, TypeError, AttributeError)


@dataclass(frozen=True)
class Routing:
    """One deployment's ``RoutingPolicy``, or its model's, or the defaults."""

    weights: Weights = field(default_factory=Weights)
    longest_wait_s: float = 20.0
    explained_to: frozenset[str] = frozenset()  # organizations' public ids


DEFAULT_ROUTING = Routing()


@dataclass(frozen=True)
class Served:
    """One deployment with all that a request needs to know of it."""

    deployment: int
    name: str
    version: int
    version_label: str
    region: str
    batching_profile: str
    traffic_weight: int
    max_context_tokens: int
    embedding_dimensions: int | None
    renderer: PromptRenderer
    dedicated_to: int | None = None  # the organization it is kept for
    cost_micros_per_hour: int = 0  # of one replica; 0: not known
    routing: Routing = DEFAULT_ROUTING
    tool_parser: str = ""
    reasoning_parser: str = ""
    fingerprint: str = ""  # of weights and how they are run, as answers tell it
    # To which sizes its embeddings may be cut; empty: to any, None: to none.
    cut_dimensions: frozenset[int] | None = None
    is_cross_encoder: bool = False  # it scores pairs of texts, and embeds none


def model_not_found(name: str) -> ModelNotFound:
    """The same for a model that is absent and for one that is not for the caller."""
    return ModelNotFound(
        f"The model `{name[:120]}` does not exist or you do not have access to it."
    )


@dataclass(frozen=True)
class ModelEntry:
    name: str
    kind: str
    owned_by: str
    created: int
    fallback: str | None
    deployments: tuple[Served, ...] = ()


@dataclass(frozen=True)
class Snapshot:
    models: dict[str, ModelEntry] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    # What ``resolve`` found, by model and organization; true as long as the snapshot is.
    _resolved: dict[tuple[str, int], tuple[Served, ...]] = field(
        default_factory=dict, repr=False, compare=False
    )

    def find(self, name: str) -> ModelEntry:
        """A served model by its name or an alias of it, or ModelNotFound."""
        entry = self.models.get(self.aliases.get(name, name))
        if entry is None:
            raise model_not_found(name)
        return entry

    def names_of(self, entry: ModelEntry) -> list[str]:
        """The model's own name, then its aliases."""
        return [entry.name, *(alias for alias, name in self.aliases.items() if name == entry.name)]

    def usable(self, entry: ModelEntry, organization: int) -> list[Served]:
        """Deployments that this organization may use: its dedicated ones lead."""
        usable = [s for s in entry.deployments if s.dedicated_to in (None, organization)]
        return sorted(usable, key=lambda served: served.dedicated_to is None)

    def resolve(self, entry: ModelEntry, organization: int) -> tuple[Served, ...]:
        """The deployments for this organization's request, best first.

        Traffic weights split organizations, not requests: one organization stays
        with one version while weights stay. The others follow as fallbacks.
        """
        key = entry.name, organization
        found = self._resolved.get(key)
        if found is None:
            if len(self._resolved) >= RESOLVED_KEPT:
                self._resolved.clear()
            found = self._resolved[key] = tuple(self._in_order(entry, organization))
        return found

    def _in_order(self, entry: ModelEntry, organization: int) -> list[Served]:
        usable = self.usable(entry, organization)
        own = [served for served in usable if served.dedicated_to is not None]
        shared = [served for served in usable if served.dedicated_to is None]
        return own + self._split(entry, shared, organization)

    def _split(self, entry: ModelEntry, shared: list[Served], organization: int) -> list[Served]:
        weighted = [served for served in shared if served.traffic_weight > 0]
        total = sum(served.traffic_weight for served in weighted)
        if len(weighted) < 2:
            return weighted or shared
        digest = hashlib.blake2b(f"{entry.name}:{organization}".encode(), digest_size=8).digest()
        point = int.from_bytes(digest, "big") % total
        for served in weighted:
            point -= served.traffic_weight
            if point < 0:
                return [served, *(other for other in weighted if other is not served)]
        return weighted


class Registry:
    """Keeps ``snapshot`` fresh; ``run`` is a task of the gateway."""

    def __init__(self) -> None:
        self.snapshot = Snapshot()
        self._renderers: dict[tuple[Path, str], PromptRenderer] = {}
        self._facts: dict[tuple[Path, str], tuple[frozenset[int] | None, bool]] = {}

    async def refresh(self) -> None:
        self.snapshot = await sync_to_async(self._load, thread_sensitive=False)()

    async def run(self) -> None:
        """For ever; the last snapshot serves while the database is away. Cancel to stop."""
        await keep_fresh(CHANNEL, self.refresh, every_s=REFRESH_S)

    def _load(self) -> Snapshot:
        try:
            return self._read()
        finally:
            connection.close()

    def _read(self) -> Snapshot:
        served: dict[int, list[Served]] = {}
        rows = Deployment.objects.filter(is_enabled=True).select_related(
            "version__model__routing_policy", "routing_policy"
        )
        for row in rows.order_by("pk"):
            try:
                entry = self._served(row)
            except _UNREADABLE as error:
                log.error(
                    "registry.version_unreadable",
                    extra={"deployment": row.name, "error": repr(error)},
                )
                continue
            served.setdefault(row.version.model_id, []).append(entry)
        models = {
            model.name: ModelEntry(
                name=model.name,
                kind=model.kind,
                owned_by=model.owned_by,
                created=int(model.created_at.timestamp()),
                fallback=model.fallback.name if model.fallback else None,
                deployments=tuple(served[model.pk]),
            )
            for model in Model.objects.filter(is_enabled=True).select_related("fallback")
            if model.pk in served
        }
        aliases = {
            alias.name: alias.model.name for alias in ModelAlias.objects.select_related("model")
        }
        return Snapshot(models, aliases)

    def _served(self, row: Deployment) -> Served:
        version = row.version
        folder = Path(settings.MODEL_STORE) / version.path
        # By content too: a version whose weights were replaced gets a new renderer.
        key = (folder, version.sha256)
        renderer = self._renderers.get(key)
        if renderer is None:
            renderer = self._renderers[key] = PromptRenderer.load(folder)
            self._facts[key] = matryoshka_dimensions(folder), is_cross_encoder(folder)
        return Served(
            deployment=row.pk,
            name=row.name,
            version=version.pk,
            version_label=f"{version.model.name}@{version.version}",
            dedicated_to=row.dedicated_to_id,
            region=row.region,
            batching_profile=row.batching_profile,
            traffic_weight=row.traffic_weight,
            max_context_tokens=version.max_context_tokens,
            embedding_dimensions=version.embedding_dimensions,
            renderer=renderer,
            cost_micros_per_hour=row.cost_micros_per_hour,
            routing=_routing_of(row),
            tool_parser=version.tool_parser,
            reasoning_parser=version.reasoning_parser,
            fingerprint=_fingerprint_of(version),
            cut_dimensions=self._facts[key][0],
            is_cross_encoder=self._facts[key][1],
        )


def _fingerprint_of(version: ModelVersion) -> str:
    """Changes with whatever may change the answer to the same request and seed."""
    parts = (version.sha256, version.dtype, sorted(version.engine_options.items()))
    return f"fp_{hashlib.blake2b(repr(parts).encode(), digest_size=5).hexdigest()}"


_WEIGHTS = tuple(Weights.__dataclass_fields__)


def _routing_of(row: Deployment) -> Routing:
    policy: RoutingPolicy | None = getattr(row, "routing_policy", None) or getattr(
        row.version.model, "routing_policy", None
    )
    if policy is None:
        return DEFAULT_ROUTING
    return Routing(
        weights=Weights(**{name: getattr(policy, name) for name in _WEIGHTS}),
        longest_wait_s=policy.longest_wait_s,
        explained_to=frozenset(map(str, policy.explained_to)),
    )
