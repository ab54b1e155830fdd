"""The cast as members: their memberships, what they may, and roles given to them."""

from __future__ import annotations

from typing import Any

from tenants import access, actions
from tenants.models import (
    AuditEvent,
    CustomRole,
    Membership,
    User,
)
from tests.cast import Cast


def membership_of(cast: Cast, user: User) -> Membership:
    return Membership.objects.get(organization=cast.organization, user=user)


def actor(cast: Cast, user: User) -> access.Actor:
    return access.get_actor(membership_of(cast, user))


def audited(action: str) -> int:
    return AuditEvent.objects.filter(action=action).count()


def give(cast: Cast, user: User, *given: str, **place: Any) -> CustomRole:
    """A role of these permissions for the user, made by the owner."""
    role = actions.create_role(
        cast.organization, "-".join(given)[:80], list(given), actor=actor(cast, cast.owner)
    )
    actions.assign_role(role, user, actor=actor(cast, cast.owner), **place)
    return role
