"""Groups that have a role in a project, on the wire."""

from __future__ import annotations

from typing import Any, Literal

from api.management.wire import Answer, Body, Id, unix
from tenants.models import Project


class ProjectGroup(Answer, frozen=True, kw_only=True):
    group_id: str
    group_name: str
    project_id: str
    created_at: int
    group_type: Literal["group"] = "group"
    object: Literal["project.group"] = "project.group"

    @classmethod
    def of(cls, row: Any, project: Project) -> ProjectGroup:
        """``row`` is one of ``listings.project_groups``."""
        return cls(
            group_id=row.public_id,
            group_name=row.name,
            project_id=project.public_id,
            created_at=unix(row.granted_at),
        )


class NewProjectGroup(Body, frozen=True, kw_only=True):
    """``role`` is the id of a custom role, the project's own or the organization's."""

    group_id: Id
    role: Id


class ProjectGroupQuery(Body, frozen=True, kw_only=True):
    group_type: Literal["group", "tenant_group"] = "group"
