"""Shared reads of tenants; each is scoped by the organization it is given."""

from __future__ import annotations

from django.db.models import QuerySet

from tenants.models import ApiKey, Membership, Organization, Project


def get_api_keys(organization: Organization) -> QuerySet[ApiKey]:
    """Every key, revoked ones included, newest first, with project and creator loaded."""
    return (
        ApiKey.objects.filter(organization=organization)
        .select_related("project", "created_by")
        .defer("secret_hmac")
        .order_by("-created_at", "-pk")
    )


def has_api_keys(organization: Organization) -> bool:
    return ApiKey.objects.filter(organization=organization).exists()


def get_projects(organization: Organization) -> QuerySet[Project]:
    """Live projects, oldest first, so that the default project leads."""
    return Project.objects.filter(organization=organization, archived_at=None).order_by(
        "created_at", "pk"
    )


def get_members(organization: Organization) -> QuerySet[Membership]:
    """Memberships with their users, oldest first."""
    return (
        Membership.objects.filter(organization=organization)
        .select_related("user")
        .order_by("created_at", "pk")
    )
