"""Who may: every function returns the object or raises; a foreign object is absent."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

from django.db.models import Model, Q, QuerySet

from tenants import permissions, scope
from tenants.errors import AccessDenied, NotFound
from tenants.models import (
    ApiKey,
    CustomRole,
    Group,
    Invitation,
    Membership,
    Organization,
    Project,
    ProjectMembership,
    RoleAssignment,
    ServiceAccount,
    User,
)

M = TypeVar("M", bound=Model)

# The predefined roles' permissions, under the name by which this module is asked.
PERMISSIONS = permissions.OF_ROLE


@dataclass(frozen=True)
class Actor:
    """Who acts in an organization: a member, or a program with an admin key."""

    organization: Organization
    user: User | None
    key: ApiKey | None
    everywhere: frozenset[str]
    in_project: dict[int, frozenset[str]] = field(default_factory=dict)
    title: str = ""  # of the role, for a refusal's words

    def may(self, permission: str, project: Project | None = None) -> bool:
        """Everywhere, or in this project."""
        if permission in self.everywhere:
            return True
        return project is not None and permission in self.in_project.get(project.pk, frozenset())

    def check(self, permission: str, project: Project | None = None) -> None:
        if not self.may(permission, project):
            raise AccessDenied(f"Your role ({self.title}) does not allow this.")

    def check_gives(self, given: frozenset[str], project: Project | None = None) -> None:
        """Nobody gives, or takes away, more than they have themselves."""
        has = self.everywhere
        if project is not None:
            has = has | self.in_project.get(project.pk, frozenset())
        if not given <= has:
            missing = ", ".join(sorted(given - has))
            raise AccessDenied(f"You cannot give what you do not have: {missing}.")


def get_actor(membership: Membership) -> Actor:
    """What a member may do by their role, their custom roles, and their groups'."""
    everywhere = set(permissions.OF_ROLE[membership.role])
    in_project: dict[int, set[str]] = {}
    for given in _assignments(membership):
        reach = in_project.setdefault(given.project_id, set()) if given.project_id else everywhere
        reach.update(given.role.permissions)
    for joined in ProjectMembership.objects.filter(
        organization=membership.organization_id, user=membership.user_id
    ):
        granted = permissions.OF_PROJECT_ROLE[joined.role]
        in_project.setdefault(joined.project_id, set()).update(granted)
    return Actor(
        organization=membership.organization,
        user=membership.user,
        key=None,
        everywhere=frozenset(everywhere & permissions.ALL),
        in_project={pk: frozenset(have & permissions.PROJECT) for pk, have in in_project.items()},
        title=membership.get_role_display(),
    )


def _assignments(membership: Membership) -> QuerySet[RoleAssignment]:
    return (
        RoleAssignment.objects.filter(organization=membership.organization_id)
        .filter(Q(user=membership.user_id) | Q(group__members__user=membership.user_id))
        .select_related("role")
    )


def get_key_actor(key: ApiKey) -> Actor:
    """What an admin key may do: its scopes, or everything its creator's role could give it."""
    held = frozenset(key.scopes) & permissions.ALL if key.scopes else permissions.ALL
    return Actor(key.organization, None, key, held, title="admin key")


def get_staff_actor(user: User, organization: Organization) -> Actor:
    """Staff of the platform, who may do everything; the trail names them as staff."""
    return Actor(organization, user, None, permissions.ALL, title="staff")


# --- Members -----------------------------------------------------------------------------


def get_memberships(user: User) -> QuerySet[Membership]:
    """A user's memberships with their organizations, oldest first, in any scope of theirs."""
    if scope.current().sees_everything:
        memberships = Membership.objects.all()
    else:
        with scope.for_user(user.pk):
            memberships = Membership.objects.all()
    return (
        memberships.filter(user=user)
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


def is_allowed(membership: Membership, permission: str, project: Project | None = None) -> bool:
    """By the role alone where that is enough; else by everything that was given besides."""
    if permission in permissions.OF_ROLE[membership.role]:
        return True
    return actor_of(membership).may(permission, project)


def actor_of(membership: Membership) -> Actor:
    """``get_actor``, once for each loaded membership."""
    known: Actor | None = membership.__dict__.get("_actor")
    if known is None:
        with scope.for_organization(membership.organization_id):
            known = membership.__dict__["_actor"] = get_actor(membership)
    return known


def check_permission(
    membership: Membership, permission: str, project: Project | None = None
) -> None:
    if not is_allowed(membership, permission, project):
        raise AccessDenied(f"Your role ({membership.get_role_display()}) does not allow this.")


def access_in(
    rows: QuerySet[M],
    public_id: str,
    what: str,
    *,
    name: str = "public_id",
    param: str | None = None,
) -> M:
    """The one row of an organization's ``rows`` (``tenants.listings``) that the caller names."""
    row = rows.filter(**{name: public_id}).first()
    if row is None:
        raise NotFound(f"No such {what}.", param=param)
    return row


# --- What belongs to an organization --------------------------------------------------------


def access_member(organization: Organization, user_public_id: str) -> Membership:
    """A member of this organization, with their user loaded."""
    membership = (
        Membership.objects.filter(organization=organization, user__public_id=user_public_id)
        .select_related("user", "organization")
        .first()
    )
    if membership is None:
        raise NotFound("No such user.", param="user_id")
    return membership


def access_project(
    organization: Organization, public_id: str, *, with_archived: bool = False
) -> Project:
    """A live project of this organization."""
    projects = Project.objects.filter(organization=organization, public_id=public_id)
    project = (projects if with_archived else projects.filter(archived_at=None)).first()
    if project is None:
        raise NotFound("No such project.", param="project")
    return project


def access_api_key(organization: Organization, public_id: str) -> ApiKey:
    """A key of this organization, revoked ones included."""
    key = (
        ApiKey.objects.filter(organization=organization, public_id=public_id)
        .select_related("project", "service_account", "created_by", "organization")
        .first()
    )
    if key is None:
        raise NotFound("No such API key.")
    return key


def access_service_account(project: Project, public_id: str) -> ServiceAccount:
    account = ServiceAccount.objects.filter(
        organization=project.organization_id, project=project, public_id=public_id, deleted_at=None
    ).first()
    if account is None:
        raise NotFound("No such service account.", param="service_account_id")
    return account


def access_invitation(organization: Organization, public_id: str) -> Invitation:
    invitation = Invitation.objects.filter(organization=organization, public_id=public_id).first()
    if invitation is None:
        raise NotFound("No such invitation.", param="invite_id")
    return invitation


def access_group(organization: Organization, public_id: str) -> Group:
    group = Group.objects.filter(organization=organization, public_id=public_id).first()
    if group is None:
        raise NotFound("No such group.", param="group_id")
    return group


def access_assignable_role(
    organization: Organization, public_id: str, project: Project | None
) -> CustomRole:
    """A role that can be given here: the organization's, or the project's own."""
    reach = Q(project=None) if project is None else Q(project=None) | Q(project=project)
    rows = CustomRole.objects.filter(reach, organization=organization)
    rows = rows.select_related("organization", "project")
    return access_in(rows, public_id, "role", param="role_id")


def access_custom_role(
    organization: Organization, public_id: str, project: Project | None = None
) -> CustomRole:
    """A role of the organization, or with ``project`` one that this project made."""
    role = CustomRole.objects.filter(
        organization=organization, project=project, public_id=public_id
    ).first()
    if role is None:
        raise NotFound("No such role.", param="role_id")
    return role
