"""Custom roles, and who has them, on the wire."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from api.management.groups.wire import Group
from api.management.users.wire import User
from api.management.wire import Answer, Body, Id, Text, unix
from tenants.models import CustomRole, RoleAssignment

Permissions = Annotated[list[Text], Meta(max_length=100)]


class Role(Answer, frozen=True, kw_only=True):
    """``permissions`` are those of ``tenants.permissions``, as ``project.read``."""

    id: str
    name: str
    description: str
    permissions: list[str]
    resource_type: str
    predefined_role: bool = False
    object: Literal["role"] = "role"

    @classmethod
    def of(cls, row: CustomRole) -> Role:
        return cls(
            id=row.public_id,
            name=row.name,
            description=row.description,
            permissions=row.permissions,
            resource_type=row.reach,
        )


class AssignedRole(Answer, frozen=True, kw_only=True):
    id: str
    name: str
    description: str
    permissions: list[str]
    resource_type: str
    created_at: int
    predefined_role: bool = False

    @classmethod
    def of(cls, row: RoleAssignment) -> AssignedRole:
        return cls(
            id=row.role.public_id,
            name=row.role.name,
            description=row.role.description,
            permissions=row.role.permissions,
            resource_type=row.role.reach,
            created_at=unix(row.role.created_at),
        )


class UserRole(Answer, frozen=True, kw_only=True):
    role: Role
    user: User
    object: Literal["user.role"] = "user.role"


class GroupRole(Answer, frozen=True, kw_only=True):
    role: Role
    group: Group
    object: Literal["group.role"] = "group.role"


class NewRole(Body, frozen=True, kw_only=True):
    role_name: Text
    permissions: Permissions
    description: Text | None = None


class RoleChange(Body, frozen=True, kw_only=True):
    role_name: Text | None = None
    permissions: Permissions | None = None
    description: Text | None = None


class GivenRole(Body, frozen=True, kw_only=True):
    role_id: Id
