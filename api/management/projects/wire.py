"""Projects on the wire."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET, UnsetType

from api.management.limits import Limits, NewLimits, limits_of
from api.management.wire import Answer, Body, ListQuery, Text, unix
from tenants.models import Project as ProjectRow


class Project(Answer, frozen=True, kw_only=True):
    id: str
    name: str
    created_at: int
    archived_at: int | None
    status: Literal["active", "archived"]
    limits: Limits
    external_key_id: None = None
    residency: None = None
    object: Literal["organization.project"] = "organization.project"

    @classmethod
    def of(cls, row: ProjectRow) -> Project:
        return cls(
            id=row.public_id,
            name=row.name,
            created_at=unix(row.created_at),
            archived_at=unix(row.archived_at),
            status="active" if row.archived_at is None else "archived",
            limits=limits_of(row),
        )


class NewProject(Body, frozen=True, kw_only=True):
    name: Text
    limits: NewLimits | UnsetType = UNSET
    geography: Any = None
    residency: Any = None
    external_key_id: Any = None


class ProjectChange(Body, frozen=True, kw_only=True):
    name: Text | None = None
    limits: NewLimits | UnsetType = UNSET
    geography: Any = None
    external_key_id: Any = None


class ProjectQuery(ListQuery, frozen=True, kw_only=True):
    include_archived: bool = False
