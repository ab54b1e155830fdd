"""What somebody may do: predefined roles, roles that an organization makes, who has which.

The permissions behind the predefined roles are in ``tenants.permissions``.
"""

from __future__ import annotations

from typing import ClassVar

from django.db import models

from tenants import identifiers
from tenants.managers import TenantManager
from tenants.models.organizations import Organization, Project
from tenants.models.people import User


class Role(models.TextChoices):
    OWNER = "owner", "Owner"
    ADMIN = "admin", "Admin"
    BILLING = "billing", "Billing"
    DEVELOPER = "developer", "Developer"
    VIEWER = "viewer", "Viewer"


class ProjectRole(models.TextChoices):
    OWNER = "owner", "Project owner"
    MEMBER = "member", "Member"
    VIEWER = "viewer", "Viewer"


class CustomRole(models.Model):
    """A set of permissions that an organization named."""

    class Reach(models.TextChoices):
        ORGANIZATION = "api.organization", "Organization"
        PROJECT = "api.project", "Project"

    public_id = models.CharField(
        max_length=24, unique=True, default=identifiers.new_role_id, editable=False
    )
    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, related_name="custom_roles"
    )
    # Set for a role that one project made for itself; only that project can assign it.
    project = models.ForeignKey(
        Project, on_delete=models.CASCADE, null=True, blank=True, related_name="custom_roles"
    )
    name = models.CharField(max_length=80)
    description = models.CharField(max_length=200, blank=True)
    permissions = models.JSONField(default=list)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = TenantManager()

    class Meta:
        ordering: ClassVar = ["name", "pk"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["organization", "project", "name"],
                nulls_distinct=False,
                name="tenants_role_name",
            )
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def reach(self) -> str:
        return self.Reach.PROJECT if self.project_id else self.Reach.ORGANIZATION


class RoleAssignment(models.Model):
    """A custom role given to one person or one group, everywhere or in one project."""

    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, related_name="role_assignments"
    )
    role = models.ForeignKey(CustomRole, on_delete=models.CASCADE, related_name="assignments")
    user = models.ForeignKey(
        User, on_delete=models.CASCADE, null=True, related_name="role_assignments"
    )
    group = models.ForeignKey(
        "tenants.Group", on_delete=models.CASCADE, null=True, related_name="role_assignments"
    )
    project = models.ForeignKey(
        Project, on_delete=models.CASCADE, null=True, related_name="role_assignments"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    objects = TenantManager()

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=models.Q(user__isnull=False, group__isnull=True)
                | models.Q(user__isnull=True, group__isnull=False),
                name="tenants_assignment_to_one",
            ),
            models.UniqueConstraint(
                fields=["role", "user", "group", "project"],
                nulls_distinct=False,
                name="tenants_assignment_once",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.role} for {self.user or self.group}"
