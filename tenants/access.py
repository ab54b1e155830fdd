"""Who may: every function returns the object or raises; a foreign object is absent."""

from __future__ import annotations

from django.db.models import QuerySet

from tenants.errors import AccessDenied, NotFound
from tenants.models import ApiKey, Membership, Organization, Project, Role, User

# What a role may do. "viewer" sees usage and names, never changes anything.
PERMISSIONS: dict[str, frozenset[str]] = {
    Role.OWNER: frozenset({"organization.update", "key.create", "key.revoke", "usage.read"}),
    Role.ADMIN: frozenset({"organization.update", "key.create", "key.revoke", "usage.read"}),
    Role.DEVELOPER: frozenset({"key.create", "key.revoke", "usage.read"}),
    Role.BILLING: frozenset({"usage.read"}),
    Role.VIEWER: frozenset({"usage.read"}),
}


def get_memberships(user: User) -> QuerySet[Membership]:
    """A user's memberships with their organizations, oldest first."""
    return (
        Membership.objects.filter(user=user)
        .select_related("organization", "organization__plan")
        .order_by("created_at", "pk")
    )


def access_organization(user: User, public_id: str, permission: str) -> Organization:
    """The organization if ``user`` is a member whose role has ``permission``."""
    return access_membership(user, public_id, permission).organization


def access_membership(user: User, public_id: str, permission: str) -> Membership:
    """The same, as the membership with its organization and plan loaded."""
    membership = get_memberships(user).filter(organization__public_id=public_id).first()
    if membership is None:
        raise NotFound("No such organization.")
    check_permission(membership, permission)
    return membership


def is_allowed(membership: Membership, permission: str) -> bool:
    return permission in PERMISSIONS[membership.role]


def check_permission(membership: Membership, permission: str) -> None:
    if not is_allowed(membership, permission):
        raise AccessDenied(f"Your role ({membership.get_role_display()}) does not allow this.")


def access_project(organization: Organization, public_id: str) -> Project:
    """A live project of this organization."""
    project = Project.objects.filter(
        organization=organization, public_id=public_id, archived_at=None
    ).first()
    if project is None:
        raise NotFound("No such project.", param="project")
    return project


def access_api_key(organization: Organization, public_id: str) -> ApiKey:
    """A key of this organization, revoked ones included."""
    key = ApiKey.objects.filter(organization=organization, public_id=public_id).first()
    if key is None:
        raise NotFound("No such API key.")
    return key
