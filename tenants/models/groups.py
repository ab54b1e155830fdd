"""People of one organization who get their roles together."""

from __future__ import annotations

from typing import ClassVar

from django.db import models

from tenants import identifiers
from tenants.managers import TenantManager
from tenants.models.organizations import Organization
from tenants.models.people import User


class Group(models.Model):
    public_id = models.CharField(
        max_length=24, unique=True, default=identifiers.new_group_id, editable=False
    )
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="groups")
    name = models.CharField(max_length=120)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = TenantManager()

    class Meta:
        ordering: ClassVar = ["name", "pk"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["organization", "name"], name="tenants_group_name")
        ]

    def __str__(self) -> str:
        return self.name


class GroupMember(models.Model):
    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, related_name="+", db_index=False
    )
    group = models.ForeignKey(Group, on_delete=models.CASCADE, related_name="members")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="group_memberships")
    created_at = models.DateTimeField(auto_now_add=True)

    objects = TenantManager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["group", "user"], name="tenants_group_member_once")
        ]

    def __str__(self) -> str:
        return f"{self.user} in {self.group}"
