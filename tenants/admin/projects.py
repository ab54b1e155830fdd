"""Projects: looked at; their owners change them in the portal."""

from __future__ import annotations

from typing import ClassVar

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.admin import TabularInline

from tenants.actions.projects import LIMIT_NAMES
from tenants.models import Project, ProjectModelLimit
from tenants.staff import ReadOnlyAdmin


class ProjectModelLimitInline(TabularInline):  # type: ignore[misc]
    model = ProjectModelLimit
    extra = 0
    can_delete = False
    fields = ("model", *LIMIT_NAMES)
    readonly_fields = fields

    def has_add_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False


@admin.register(Project)
class ProjectAdmin(ReadOnlyAdmin):
    list_display = ("name", "public_id", "organization", "archived_at", "created_at")
    list_select_related = ("organization",)
    list_filter = (("archived_at", admin.EmptyFieldListFilter),)
    search_fields = ("name", "public_id", "organization__public_id")
    search_beginnings = ("name",)
    search_help_text = "How a name begins, a proj_… or org_… identifier"
    ordering = ("-pk",)
    sortable_by = ()
    inlines: ClassVar = (ProjectModelLimitInline,)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Project]:
        return super().get_queryset(request).select_related("organization")
