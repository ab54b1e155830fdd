"""Members: their roles changed, themselves removed. There is always an owner."""

from __future__ import annotations

from django.db import transaction
from django.utils import timezone

from tenants import access, audit, locks, permissions
from tenants.actions.notices import notify_change
from tenants.errors import InvalidInput
from tenants.models import (
    ApiKey,
    GroupMember,
    Membership,
    Organization,
    ProjectMembership,
    Role,
    RoleAssignment,
    User,
)


@transaction.atomic
def add_member(
    organization: Organization,
    user: User,
    role: str,
    *,
    actor: access.Actor,
    address: str | None = None,
) -> Membership:
    """Make a person a member unasked, as staff do; everybody else invites."""
    role = checked_role(role)
    actor.check_gives(permissions.OF_ROLE[role])
    membership, is_new = Membership.objects.get_or_create(
        organization=organization, user=user, defaults={"role": role}
    )
    if not is_new:
        raise InvalidInput("This person is a member already.", param="user_id")
    audit.record_event(
        acting_user=actor.user,
        action="member.added",
        object_type="user",
        object_id=user.public_id,
        organization=organization,
        after={"email": user.email, "role": role},
        address=address,
    )
    return membership


@transaction.atomic
def change_member_role(
    membership: Membership,
    role: str,
    *,
    actor: access.Actor,
    address: str | None = None,
) -> Membership:
    """Give a member another role; neither it nor the one before may exceed the actor's."""
    role = checked_role(role)
    owners = locks.lock_member_and_owners(membership)
    actor.check_gives(permissions.OF_ROLE[membership.role] | permissions.OF_ROLE[role])
    _check_an_owner_stays(membership, role, owners)
    before = {"role": membership.role}
    membership.role = role
    membership.save(update_fields=["role"])
    audit.record_event(
        acting_user=actor.user,
        action="member.changed",
        object_type="user",
        object_id=membership.user.public_id,
        organization=membership.organization,
        before=before,
        after={"role": role},
        address=address,
    )
    notify_change(membership.organization_id)  # what they ask of models without a key
    return membership


@transaction.atomic
def remove_member(
    membership: Membership, *, actor: access.Actor, address: str | None = None
) -> None:
    """Take a person out: their roles, groups and the keys that they made go with them.

    Keys of service accounts stay; that is what those are for.
    """
    owners = locks.lock_member_and_owners(membership)
    if actor.user is None or actor.user.pk != membership.user_id:  # anybody may leave
        actor.check_gives(permissions.OF_ROLE[membership.role])
    _check_an_owner_stays(membership, "", owners)
    organization, user = membership.organization, membership.user
    theirs = {"organization": organization, "user": user}
    for model in (ProjectMembership, RoleAssignment, GroupMember):
        model.objects.filter(**theirs).delete()
    revoked = (
        ApiKey.objects.filter(organization=organization, created_by=user, revoked_at=None)
        .exclude(kind=ApiKey.Kind.SERVICE_ACCOUNT)
        .update(revoked_at=timezone.now())
    )
    audit.record_event(
        acting_user=actor.user,
        action="member.removed",
        object_type="user",
        object_id=user.public_id,
        organization=organization,
        before={"role": membership.role, "email": user.email},
        after={"revoked_keys": revoked},
        address=address,
    )
    membership.delete()
    notify_change(organization)


def checked_role(role: str) -> str:
    if role not in Role.values:
        raise InvalidInput(f"A role is one of {', '.join(Role.values)}.", param="role")
    return role


def _check_an_owner_stays(membership: Membership, role: str, owners: list[Membership]) -> None:
    if membership.role != Role.OWNER or role == Role.OWNER:
        return
    if all(owner.pk == membership.pk for owner in owners):
        raise InvalidInput("An organization needs an owner; make somebody else one first.")
