"""Groups of members, who get their roles together."""

from __future__ import annotations

from typing import Any

from django.db import IntegrityError, transaction

from tenants import access, audit
from tenants.actions.names import checked_name
from tenants.errors import InvalidInput, NotFound
from tenants.models import Group, GroupMember, Membership, Organization, RoleAssignment, User


@transaction.atomic
def create_group(
    organization: Organization, name: str, *, acting_user: User | None, address: str | None = None
) -> Group:
    name = checked_name(name)
    try:
        with transaction.atomic():
            group = Group.objects.create(organization=organization, name=name)
    except IntegrityError as error:
        raise InvalidInput("A group of this name exists.", param="name") from error
    _record(group, "group.created", acting_user, address, after={"name": name})
    return group


@transaction.atomic
def rename_group(
    group: Group, name: str, *, acting_user: User | None, address: str | None = None
) -> Group:
    before, group.name = {"name": group.name}, checked_name(name)
    try:
        with transaction.atomic():
            group.save(update_fields=["name"])
    except IntegrityError as error:
        raise InvalidInput("A group of this name exists.", param="name") from error
    _record(group, "group.updated", acting_user, address, before, {"name": group.name})
    return group


@transaction.atomic
def delete_group(group: Group, *, actor: access.Actor, address: str | None = None) -> None:
    """Its members lose what it gave them, which the actor must have themselves."""
    _check_may_give(group, actor)
    _record(group, "group.deleted", actor.user, address, before={"name": group.name})
    group.delete()


@transaction.atomic
def add_group_member(
    group: Group, user: User, *, actor: access.Actor, address: str | None = None
) -> GroupMember:
    """Put a member of the organization in the group, and so give what the group has."""
    _check_may_give(group, actor)
    if not Membership.objects.filter(organization=group.organization_id, user=user).exists():
        raise NotFound("No such user.", param="user_id")
    member, is_new = GroupMember.objects.get_or_create(
        group=group, user=user, defaults={"organization": group.organization}
    )
    if is_new:
        after = {"user": user.public_id}
        _record(group, "group_member.added", actor.user, address, after=after)
    return member


@transaction.atomic
def remove_group_member(
    member: GroupMember, *, actor: access.Actor, address: str | None = None
) -> None:
    _check_may_give(member.group, actor)
    before = {"user": member.user.public_id}
    _record(member.group, "group_member.removed", actor.user, address, before=before)
    member.delete()


def _check_may_give(group: Group, actor: access.Actor) -> None:
    for assignment in RoleAssignment.objects.filter(group=group).select_related("role", "project"):
        actor.check_gives(frozenset(assignment.role.permissions), assignment.project)


def _record(
    group: Group,
    action: str,
    acting_user: User | None,
    address: str | None,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> None:
    audit.record_event(
        acting_user=acting_user,
        action=action,
        object_type="group",
        object_id=group.public_id,
        organization=group.organization,
        before=before,
        after=after,
        address=address,
    )
