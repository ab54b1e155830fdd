"""Groups and their members on the wire."""

from __future__ import annotations

from typing import Literal

from api.management.wire import Answer, Body, Id, Text, unix
from tenants.models import Group as GroupRow
from tenants.models import User


class Group(Answer, frozen=True, kw_only=True):
    id: str
    name: str
    created_at: int
    group_type: Literal["group"] = "group"
    is_scim_managed: bool = False
    object: Literal["group"] = "group"

    @classmethod
    def of(cls, row: GroupRow) -> Group:
        return cls(id=row.public_id, name=row.name, created_at=unix(row.created_at))


class NamedGroup(Body, frozen=True, kw_only=True):
    name: Text


class GroupUser(Answer, frozen=True, kw_only=True):
    id: str
    name: str
    email: str
    is_service_account: bool = False
    user_type: Literal["user"] = "user"
    object: Literal["organization.user"] = "organization.user"

    @classmethod
    def of(cls, user: User) -> GroupUser:
        return cls(id=user.public_id, name=user.name, email=user.email)


class NewGroupUser(Body, frozen=True, kw_only=True):
    user_id: Id


class GroupUserAdded(Answer, frozen=True, kw_only=True):
    group_id: str
    user_id: str
    object: Literal["group.user"] = "group.user"
