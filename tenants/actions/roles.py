"""Roles that organizations and projects make of permissions, and whom they give them to."""

from __future__ import annotations

from typing import Any

from django.db import IntegrityError, transaction

from tenants import access, audit, locks, permissions
from tenants.actions.names import checked_name
from tenants.errors import InvalidInput, NotFound
from tenants.models import (
    CustomRole,
    Group,
    Membership,
    Organization,
    Project,
    RoleAssignment,
    User,
)


@transaction.atomic
def create_role(
    organization: Organization,
    name: str,
    given: list[str],
    *,
    description: str = "",
    project: Project | None = None,
    actor: access.Actor,
    address: str | None = None,
) -> CustomRole:
    """A role of the organization, or with ``project`` one for this project alone."""
    if project is not None and project.organization_id != organization.pk:
        raise NotFound("No such project.", param="project")
    chosen = _checked_permissions(given, project is not None)
    actor.check_gives(frozenset(chosen), project)
    try:
        with transaction.atomic():
            role = CustomRole.objects.create(
                organization=organization,
                project=project,
                name=checked_name(name, "role_name")[:80],
                description=_checked_description(description),
                permissions=chosen,
            )
    except IntegrityError as error:
        raise InvalidInput("A role of this name exists.", param="role_name") from error
    after = {"name": role.name, "permissions": chosen}
    _record(role, "role.created", actor.user, address, after=after)
    return role


@transaction.atomic
def update_role(
    role: CustomRole,
    *,
    name: str | None = None,
    given: list[str] | None = None,
    description: str | None = None,
    actor: access.Actor,
    address: str | None = None,
) -> CustomRole:
    """Change what is not None. Whoever has the role has it changed at once."""
    locks.lock_custom_role(role)
    actor.check_gives(frozenset(role.permissions), role.project)
    before = {"name": role.name, "permissions": role.permissions}
    if given is not None:
        role.permissions = _checked_permissions(given, role.project_id is not None)
        actor.check_gives(frozenset(role.permissions), role.project)
    if name is not None:
        role.name = checked_name(name, "role_name")[:80]
    if description is not None:
        role.description = _checked_description(description)
    try:
        with transaction.atomic():
            role.save(update_fields=["name", "description", "permissions"])
    except IntegrityError as error:
        raise InvalidInput("A role of this name exists.", param="role_name") from error
    after = {"name": role.name, "permissions": role.permissions}
    _record(role, "role.updated", actor.user, address, before=before, after=after)
    return role


@transaction.atomic
def delete_role(role: CustomRole, *, actor: access.Actor, address: str | None = None) -> None:
    """Everybody who has it loses it."""
    actor.check_gives(frozenset(role.permissions), role.project)
    before = {"name": role.name, "permissions": role.permissions}
    _record(role, "role.deleted", actor.user, address, before=before)
    role.delete()


@transaction.atomic
def assign_role(
    role: CustomRole,
    to: User | Group,
    *,
    project: Project | None = None,
    actor: access.Actor,
    address: str | None = None,
) -> RoleAssignment:
    """Give the role to a member or a group, everywhere or in one project. Twice is once."""
    # Locked: what it gives must not grow between the check and the assignment.
    locks.lock_custom_role(role)
    project = role.project or project
    if project is not None and project.organization_id != role.organization_id:
        raise NotFound("No such project.", param="project")
    actor.check_gives(frozenset(role.permissions), project)
    _check_of_organization(role.organization_id, to)
    assignment, is_new = RoleAssignment.objects.get_or_create(
        role=role, project=project, **_holder(to), defaults={"organization": role.organization}
    )
    if is_new:
        after = {"to": to.public_id, "project": project.public_id if project else None}
        _record(role, "role.assigned", actor.user, address, after=after)
    return assignment


@transaction.atomic
def unassign_role(
    assignment: RoleAssignment, *, actor: access.Actor, address: str | None = None
) -> None:
    role, to = assignment.role, assignment.user or assignment.group
    assert to is not None
    actor.check_gives(frozenset(role.permissions), assignment.project)
    project = assignment.project.public_id if assignment.project else None
    before = {"to": to.public_id, "project": project}
    _record(role, "role.unassigned", actor.user, address, before=before)
    assignment.delete()


@transaction.atomic
def unassign_roles_in_project(
    group: Group, project: Project, *, actor: access.Actor, address: str | None = None
) -> None:
    """Take from a group all that it has in one project, and nothing that it has elsewhere."""
    given = RoleAssignment.objects.filter(
        organization=project.organization_id, group=group, project=project
    )
    for assignment in given.select_related("role__organization", "role__project", "group"):
        unassign_role(assignment, actor=actor, address=address)


def _holder(to: User | Group) -> dict[str, Any]:
    return {"user": to, "group": None} if isinstance(to, User) else {"user": None, "group": to}


def _check_of_organization(organization: int, to: User | Group) -> None:
    if isinstance(to, Group):
        if to.organization_id != organization:
            raise NotFound("No such group.", param="group_id")
    elif not Membership.objects.filter(organization=organization, user=to).exists():
        raise NotFound("No such user.", param="user_id")


def _checked_permissions(given: list[str], in_project: bool) -> list[str]:
    known = permissions.PROJECT if in_project else permissions.ALL
    unknown = sorted({str(name) for name in given} - known)
    if unknown:
        raise InvalidInput(
            f"Unknown permissions: {', '.join(unknown)[:200]}. Known are "
            f"{', '.join(sorted(known))}.",
            param="permissions",
        )
    return sorted(set(given))


def _checked_description(text: str) -> str:
    if len(text) > 200 or not all(each.isprintable() or each == "\n" for each in text):
        raise InvalidInput(
            "A description has at most 200 printable characters.", param="description"
        )
    return text


def _record(
    role: CustomRole,
    action: str,
    acting_user: User | None,
    address: str | None,
    *,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> None:
    audit.record_event(
        acting_user=acting_user,
        action=action,
        object_type="role",
        object_id=role.public_id,
        organization=role.organization,
        project=role.project.public_id if role.project else "",
        before=before,
        after=after,
        address=address,
    )
