"""Which models a project may use, on the wire."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from api.management.wire import Answer, Body, Text
from tenants.models import Project


class ModelPermissions(Answer, frozen=True, kw_only=True):
    """A project without any has a deny list that is empty."""

    mode: Literal["allow_list", "deny_list"]
    model_ids: list[str]
    object: Literal["project.model_permissions"] = "project.model_permissions"

    @classmethod
    def of(cls, project: Project) -> ModelPermissions:
        if project.allowed_models:
            denied = set(project.denied_models)
            allowed = [name for name in project.allowed_models if name not in denied]
            return cls(mode="allow_list", model_ids=allowed)
        return cls(mode="deny_list", model_ids=project.denied_models)


class NewModelPermissions(Body, frozen=True, kw_only=True):
    mode: Literal["allow_list", "deny_list"]
    model_ids: Annotated[list[Text], Meta(max_length=200)]
