"""Reads of the management API: what of an organization is listed, and with what beside it.

``tenants.pages`` orders and cuts these; each loads in one query all that an item shows.
"""

from __future__ import annotations

from django.db.models import CharField, Exists, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce

from tenants.audit_events import AuditFilters, get_audit_events
from tenants.models import (
    ApiKey,
    AuditEvent,
    CustomRole,
    Group,
    GroupMember,
    Invitation,
    Membership,
    Organization,
    Project,
    ProjectMembership,
    ProjectModelLimit,
    RoleAssignment,
    ServiceAccount,
    User,
)


def projects(organization: Organization, *, with_archived: bool = False) -> QuerySet[Project]:
    rows = Project.objects.filter(organization=organization)
    return rows if with_archived else rows.filter(archived_at=None)


def admin_keys(organization: Organization) -> QuerySet[ApiKey]:
    """Admin keys that were not revoked; ``owner_role`` is their creator's."""
    rows = ApiKey.objects.filter(organization=organization, kind=ApiKey.Kind.ADMIN, revoked_at=None)
    return _with_owners(rows, organization)


def project_keys(project: Project) -> QuerySet[ApiKey]:
    """Keys of a project and its service accounts that were not revoked.

    ``owner_role`` is the creator's in the project, else in the organization; None says
    that they have left.
    """
    rows = ApiKey.objects.filter(
        organization=project.organization_id, project=project, revoked_at=None
    )
    in_project = ProjectMembership.objects.filter(project=project, user=OuterRef("created_by"))
    return _with_owners(rows, project.organization_id, in_project)


def _with_owners(
    rows: QuerySet[ApiKey],
    organization: Organization | int,
    in_project: QuerySet[ProjectMembership] | None = None,
) -> QuerySet[ApiKey]:
    memberships = Membership.objects.filter(organization=organization, user=OuterRef("created_by"))
    role = Subquery(memberships.values("role")[:1], output_field=CharField())
    if in_project is not None:
        nearer = Subquery(in_project.values("role")[:1], output_field=CharField())
        annotated = rows.annotate(is_member=Exists(memberships), owner_role=Coalesce(nearer, role))
    else:
        annotated = rows.annotate(is_member=Exists(memberships), owner_role=role)
    return annotated.select_related("created_by", "service_account", "project", "organization")


def with_owner_access(keys: QuerySet[ApiKey], access: str) -> QuerySet[ApiKey]:
    """Of ``project_keys``: those whose owner is still here (``active``), has left, or any."""
    is_here = Q(is_member=True) | Q(kind=ApiKey.Kind.SERVICE_ACCOUNT)
    if access == "any":
        return keys
    return keys.filter(is_here) if access == "active" else keys.exclude(is_here)


def service_accounts(project: Project) -> QuerySet[ServiceAccount]:
    return ServiceAccount.objects.filter(
        organization=project.organization_id, project=project, deleted_at=None
    )


def members(organization: Organization, emails: list[str] | None = None) -> QuerySet[Membership]:
    rows = Membership.objects.filter(organization=organization).select_related("user")
    return rows if not emails else rows.filter(user__email__in=[e.lower() for e in emails])


def project_members(project: Project) -> QuerySet[ProjectMembership]:
    return ProjectMembership.objects.filter(
        organization=project.organization_id, project=project
    ).select_related("user", "project__organization")


def invitations(organization: Organization) -> QuerySet[Invitation]:
    """Those that were not withdrawn."""
    return Invitation.objects.filter(organization=organization, revoked_at=None)


def groups(organization: Organization) -> QuerySet[Group]:
    return Group.objects.filter(organization=organization)


def group_members(group: Group) -> QuerySet[GroupMember]:
    return GroupMember.objects.filter(
        organization=group.organization_id, group=group
    ).select_related("user", "group__organization")


def custom_roles(
    organization: Organization, project: Project | None = None
) -> QuerySet[CustomRole]:
    """The organization's own roles, or those that one project made."""
    return CustomRole.objects.filter(organization=organization, project=project).select_related(
        "organization", "project"
    )


def assignments(
    organization: Organization, to: User | Group, project: Project | None = None
) -> QuerySet[RoleAssignment]:
    """Custom roles that a person or a group was given directly, everywhere or in a project."""
    holder = {"user": to} if isinstance(to, User) else {"group": to}
    return RoleAssignment.objects.filter(
        organization=organization, project=project, **holder
    ).select_related("role__project", "role__organization", "user", "group", "project")


def project_groups(project: Project) -> QuerySet[Group]:
    """Groups with a role in the project; ``granted_at`` is when they got the first."""
    given = RoleAssignment.objects.filter(
        organization=project.organization_id, project=project, group=OuterRef("pk")
    ).order_by("pk")
    return Group.objects.filter(
        organization=project.organization_id, pk__in=given_groups(project)
    ).annotate(granted_at=Subquery(given.values("created_at")[:1]))


def given_groups(project: Project) -> QuerySet[RoleAssignment, int | None]:
    return RoleAssignment.objects.filter(
        organization=project.organization_id, project=project, group__isnull=False
    ).values_list("group_id", flat=True)


def model_limits(project: Project) -> QuerySet[ProjectModelLimit]:
    return ProjectModelLimit.objects.filter(
        organization=project.organization_id, project=project
    ).order_by("model")


def audit_log(organization: Organization, filters: AuditFilters) -> QuerySet[AuditEvent]:
    """Events with their actors, and the names of the projects that they are about."""
    names = Project.objects.filter(organization=organization, public_id=OuterRef("project_id"))
    return (
        get_audit_events(organization, filters)
        .select_related("acting_key__created_by")
        .annotate(project_name=Subquery(names.values("name")[:1]))
    )
