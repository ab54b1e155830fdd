"""Our actions as OpenAI's event types, and what an event tells under its type's name. Pure."""

from __future__ import annotations

from typing import Any

# Types that are not here are ours, under their own names: api_key.rotated, sso.created …
TYPES = {
    "api_key.revoked": "api_key.deleted",
    "member.added": "user.added",
    "member.changed": "user.updated",
    "member.removed": "user.deleted",
    "role.assigned": "role.assignment.created",
    "role.unassigned": "role.assignment.deleted",
}
_ACTIONS = {kind: action for action, kind in TYPES.items()}


def type_of(action: str) -> str:
    return TYPES.get(action, action)


def actions_of(kind: str) -> tuple[str, ...]:
    """The actions that a type stands for; either name finds them."""
    return tuple({kind, _ACTIONS.get(kind, kind)})


def details_of(
    action: str, object_id: str, before: dict[str, Any], after: dict[str, Any]
) -> dict[str, Any]:
    """What OpenAI's client reads under the type's name; ``before`` and ``after`` beside it."""
    told: dict[str, Any] = {"id": object_id, "before": before, "after": after}
    verb = action.rpartition(".")[2]
    if verb in ("created", "sent", "added"):
        told["data"] = after | _named(action, after)
    elif verb in ("updated", "changed"):
        told["changes_requested"] = after | _named(action, after)
    elif verb in ("assigned", "unassigned"):
        given = after or before
        told |= {"principal_id": given.get("to"), "resource_id": given.get("project")}
    return told


def _named(action: str, after: dict[str, Any]) -> dict[str, Any]:
    """The names by which OpenAI's events call what ours call ``name``."""
    if "name" not in after:
        return {}
    noun = action.partition(".")[0]
    name = {"project": "title", "group": "group_name", "role": "role_name"}.get(noun)
    return {name: after["name"]} if name else {}
