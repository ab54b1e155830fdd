"""The step from a model's name to the deployments that can answer now."""

from __future__ import annotations

from api.gateway import Gateway
from inference.errors import InvalidRequest
from inference.registry import ModelEntry, Served, model_not_found
from tenants.principal import Principal

MOST_FALLBACKS = 4


def find_model(gateway: Gateway, name: str, principal: Principal) -> ModelEntry:
    """The model of this name or alias; one that is not for the caller is not found."""
    snapshot = gateway.registry.snapshot
    entry = snapshot.find(name)
    if not principal.may_use(entry.name) or not snapshot.usable(entry, principal.organization):
        raise model_not_found(name)
    return entry


def resolve(
    gateway: Gateway, name: str, kind: str, principal: Principal
) -> tuple[ModelEntry, tuple[Served, ...]]:
    """The model (or the fallback that answers for it) and its deployments, best first.

    The fallback is chosen before tokens are counted, because it counts its own.
    """
    snapshot = gateway.registry.snapshot
    entry = find_model(gateway, name, principal)
    if entry.kind != kind:
        raise InvalidRequest(f"The model `{name}` does not serve this endpoint.", param="model")
    chosen = entry
    for _ in range(MOST_FALLBACKS):
        if gateway.dispatcher.has_replica(served.deployment for served in chosen.deployments):
            break
        fallback = snapshot.models.get(chosen.fallback or "")
        if fallback is None or fallback.kind != kind or not principal.may_use(fallback.name):
            chosen = entry
            break
        chosen = fallback
    return chosen, tuple(snapshot.resolve(chosen, principal.organization))
