"""People of a project on the wire."""

from __future__ import annotations

from typing import Literal

from api.management.wire import Answer, Body, Id, Text, unix
from tenants.models import ProjectMembership


class ProjectUser(Answer, frozen=True, kw_only=True):
    """``role`` is owner, member or viewer."""

    id: str
    name: str
    email: str
    role: str
    added_at: int
    object: Literal["organization.project.user"] = "organization.project.user"

    @classmethod
    def of(cls, row: ProjectMembership) -> ProjectUser:
        return cls(
            id=row.user.public_id,
            name=row.user.name,
            email=row.user.email,
            role=row.role,
            added_at=unix(row.created_at),
        )


class NewProjectUser(Body, frozen=True, kw_only=True):
    """A member of the organization, by ``user_id`` or ``email``."""

    role: Text
    user_id: Id | None = None
    email: Text | None = None


class ProjectUserChange(Body, frozen=True, kw_only=True):
    role: Text
