"""The step from a model's name to the deployments that can answer now."""

from __future__ import annotations

from api.controls import DEFAULT, Controls
from api.gateway import Gateway
from inference.errors import InvalidRequest, Overloaded
from inference.registry import ModelEntry, Served, Snapshot, model_not_found
from tenants.principal import Principal

MOST_FALLBACKS = 4
# A forecast from queues is worth no more than this.
LONGEST_RETRY_S = 60.0


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
    gateway: Gateway,
    name: str,
    kind: str,
    principal: Principal,
    tier: str = "standard",
    controls: Controls = DEFAULT,
) -> tuple[ModelEntry, tuple[Served, ...]]:
    """The model (or the fallback that answers for it) and its deployments, best first.

    The fallback is chosen before tokens are counted, because it counts its own. Raises
    Overloaded, before anything is reserved, when the wait for a place would be too long.
    """
    snapshot = gateway.registry.snapshot
    entry, usable = find_model(gateway, name, principal)
    if entry.kind != kind:
        raise InvalidRequest(f"The model `{name}` does not serve this endpoint.", param="model")
    chosen, overload = entry, None
    for _ in range(MOST_FALLBACKS):
        if gateway.dispatcher.has_replica(served.deployment for served in usable):
            excess_s = gateway.dispatcher.excess_wait_s(
                usable, tier, principal.organization, principal.fair_share_weight
            )
            if not excess_s:
                return chosen, snapshot.resolve(chosen, principal.organization)
            overload = overload or _overloaded(name, excess_s)
            may_fall_back = controls.allows_fallback is True
        else:
            may_fall_back = controls.allows_fallback is not False
        fallback = snapshot.models.get(chosen.fallback or "") if may_fall_back else None
        usable = usable_deployments(snapshot, fallback, principal) if fallback else []
        if fallback is None or fallback.kind != kind or not usable:
            break
        chosen = fallback
    if overload is not None:
        raise overload
    # Nobody is up: the one that was asked for is told to be away, when it is dispatched.
    return entry, snapshot.resolve(entry, principal.organization)


def stands_in_for(gateway: Gateway, name: str, entry: ModelEntry) -> str:
    """The model of this name, if ``entry`` answers in its place; else empty."""
    asked = gateway.registry.snapshot.find(name)
    return "" if asked is entry else asked.name


def _overloaded(name: str, excess_s: float) -> Overloaded:
    error = Overloaded(f"The model `{name}` is overloaded. Try again in a moment.")
    error.retry_after_s = min(LONGEST_RETRY_S, max(1.0, excess_s))
    return error
