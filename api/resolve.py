"""The step from a model's name to the deployments that can answer now."""

from __future__ import annotations

from api.gateway import Gateway
from inference.errors import InvalidRequest
from inference.registry import ModelEntry, Served, Snapshot, model_not_found
from tenants.principal import Principal

MOST_FALLBACKS = 4


def usable_deployments(snapshot: Snapshot, entry: ModelEntry, principal: Principal) -> list[Served]:
    """Deployments of a model that the caller may use; none if the model is not for them.

    Lists of models hold for all of a model's names: whoever denies an alias denies what
    answers to it.
    """
    if principal.is_held_to_models and not principal.may_use(*snapshot.names_of(entry)):
        return []
    return snapshot.usable(entry, principal.organization)


def find_model(
    gateway: Gateway, name: str, principal: Principal
) -> tuple[ModelEntry, list[Served]]:
    """The model of this name or alias; one that is not for the caller is not found."""
    snapshot = gateway.registry.snapshot
    entry = snapshot.find(name)
    usable = usable_deployments(snapshot, entry, principal)
    if not usable:
        raise model_not_found(name)
    return entry, usable


def resolve(
    gateway: Gateway, name: str, kind: str, principal: Principal
) -> tuple[ModelEntry, tuple[Served, ...]]:
    """The model (or the fallback that answers for it) and its deployments, best first.

    The fallback is chosen before tokens are counted, because it counts its own.
    """
    snapshot = gateway.registry.snapshot
    entry, usable = find_model(gateway, name, principal)
    if entry.kind != kind:
        raise InvalidRequest(f"The model `{name}` does not serve this endpoint.", param="model")
    chosen = entry
    for _ in range(MOST_FALLBACKS):
        if gateway.dispatcher.has_replica(served.deployment for served in usable):
            break
        fallback = snapshot.models.get(chosen.fallback or "")
        usable = usable_deployments(snapshot, fallback, principal) if fallback else []
        if fallback is None or fallback.kind != kind or not usable:
            chosen = entry
            break
        chosen = fallback
    return chosen, tuple(snapshot.resolve(chosen, principal.organization))
