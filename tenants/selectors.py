"""Shared reads of tenants; each is scoped by the organization it is given.

``projects`` restricts a list to those projects, by primary key; None asks for all.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from typing import Any

from django.apps import apps
from django.db.models import Count, Exists, Model, OuterRef, Prefetch, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.utils import timezone

from tenants.models import (
    ApiKey,
    CustomRole,
    Group,
    GroupMember,
    Invitation,
    Membership,
    Organization,
    PlanModelLimit,
    Project,
    ProjectMembership,
    ProjectModelLimit,
    RoleAssignment,
    ServiceAccount,
    User,
)

# A key that ends within this time is shown as such, and its people are warned.
EXPIRES_SOON = timedelta(days=7)


# --- Keys --------------------------------------------------------------------------------


def get_api_keys(
    organization: Organization,
    *,
    projects: Collection[int] | None = None,
    state: str = "",
    search: str = "",
) -> QuerySet[ApiKey]:
    """Keys of projects and service accounts, revoked ones included, newest first.

    ``state`` is one of ``key_states``; ``search`` is part of a name, or a key's last
    four characters or public id.
    """
    keys = _with_owners(ApiKey.objects.filter(organization=organization)).exclude(
        kind=ApiKey.Kind.ADMIN
    )
    if projects is not None:
        keys = keys.filter(project__in=projects)
    if state:
        keys = keys.filter(key_states(timezone.now())[state])
    if search:
        found = Q(name__icontains=search) | Q(last_four=search) | Q(public_id=search)
        keys = keys.filter(found)
    return keys


def get_keys_to_choose(organization: Organization, chosen: str, most: int) -> list[ApiKey]:
    """The keys that infer and were made last, and the ``chosen`` one (a public id), however old."""
    keys = (
        ApiKey.objects.filter(organization=organization)
        .exclude(kind=ApiKey.Kind.ADMIN)
        .only("public_id", "name", "last_four", "organization_id")
        .order_by("-created_at", "-pk")
    )
    found = list(keys[:most])
    if chosen and "\0" not in chosen and all(key.public_id != chosen for key in found):
        found += keys.filter(public_id=chosen)
    return found


def get_admin_keys(organization: Organization) -> QuerySet[ApiKey]:
    return _with_owners(ApiKey.objects.filter(organization=organization, kind=ApiKey.Kind.ADMIN))


def _with_owners(keys: QuerySet[ApiKey]) -> QuerySet[ApiKey]:
    return (
        keys.select_related("project", "created_by", "service_account")
        .defer("secret_hmac", "previous_secret_hmac")
        .order_by("-created_at", "-pk")
    )


def key_states(now: datetime) -> dict[str, Q]:
    """The states by which keys are looked for, as conditions."""
    unexpired = Q(expires_at=None) | Q(expires_at__gt=now)
    live = Q(revoked_at=None, suspended_at=None, project__archived_at=None) & unexpired
    return {
        "live": live,
        "expiring": live & Q(expires_at__lte=now + EXPIRES_SOON),
        "rotating": live & Q(previous_expires_at__gt=now),
        "suspended": Q(revoked_at=None, suspended_at__isnull=False) & unexpired,
        "expired": Q(revoked_at=None, expires_at__lte=now),
        "revoked": Q(revoked_at__isnull=False),
    }


def has_api_keys(organization: Organization) -> bool:
    """Whether there was ever a key that infers."""
    keys = ApiKey.objects.filter(organization=organization)
    return keys.exclude(kind=ApiKey.Kind.ADMIN).exists()


def is_first_key(key: ApiKey) -> bool:
    """Whether no key that infers was made before it in its organization."""
    keys = ApiKey.objects.filter(organization=key.organization, pk__lt=key.pk)
    return not keys.exclude(kind=ApiKey.Kind.ADMIN).exists()


def count_keys_made_by(organization: Organization, user: User) -> int:
    """How many keys end when this person leaves; those of service accounts do not."""
    keys = ApiKey.objects.filter(organization=organization, created_by=user, revoked_at=None)
    return keys.exclude(kind=ApiKey.Kind.SERVICE_ACCOUNT).count()


# --- Projects ----------------------------------------------------------------------------


def get_projects(
    organization: Organization, *, projects: Collection[int] | None = None
) -> QuerySet[Project]:
    """Live projects, oldest first, so that the default project leads."""
    found = Project.objects.filter(organization=organization, archived_at=None)
    if projects is not None:
        found = found.filter(pk__in=projects)
    return found.order_by("created_at", "pk")


def get_project_list(
    organization: Organization,
    *,
    projects: Collection[int] | None = None,
    is_archived: bool = False,
    search: str = "",
) -> QuerySet[Project]:
    """Projects with ``live_keys`` and ``people`` counted, by name; ``search`` in name and id."""
    found = Project.objects.filter(organization=organization, archived_at__isnull=not is_archived)
    if projects is not None:
        found = found.filter(pk__in=projects)
    if search:
        found = found.filter(Q(name__icontains=search) | Q(public_id__icontains=search))
    return found.annotate(
        live_keys=_counted(ApiKey.objects.filter(revoked_at=None), "project"),
        people=_counted(ProjectMembership.objects.all(), "project"),
    ).order_by("name", "pk")


def _counted(rows: QuerySet[Any], by: str) -> Coalesce:
    """How many rows refer to this one; a subquery, since joins would multiply each other."""
    counts = rows.filter(**{by: OuterRef("pk")}).order_by().values(by)
    return Coalesce(Subquery(counts.annotate(rows=Count("pk")).values("rows")), 0)


def get_project_members(project: Project) -> QuerySet[ProjectMembership]:
    return (
        ProjectMembership.objects.filter(organization=project.organization_id, project=project)
        .select_related("user")
        .order_by("created_at", "pk")
    )


def get_model_limits(project: Project) -> QuerySet[ProjectModelLimit]:
    return ProjectModelLimit.objects.filter(
        organization=project.organization_id, project=project
    ).order_by("model")


def get_service_accounts(project: Project) -> QuerySet[ServiceAccount]:
    """Those that live, with their keys that are not revoked as ``current_keys``."""
    keys = ApiKey.objects.filter(organization=project.organization_id, revoked_at=None)
    return (
        ServiceAccount.objects.filter(
            organization=project.organization_id, project=project, deleted_at=None
        )
        .prefetch_related(
            Prefetch(
                "api_keys", _with_owners(keys).order_by("created_at", "pk"), to_attr="current_keys"
            )
        )
        .order_by("created_at", "pk")
    )


def get_service_account_choices(
    organization: Organization, *, projects: Collection[int] | None = None
) -> QuerySet[ServiceAccount]:
    """Those of live projects, with their projects loaded."""
    accounts = ServiceAccount.objects.filter(
        organization=organization, deleted_at=None, project__archived_at=None
    ).select_related("project")
    if projects is not None:
        accounts = accounts.filter(project__in=projects)
    return accounts.order_by("project__name", "name", "pk")


def get_plan_model_limits(organization: Organization) -> QuerySet[PlanModelLimit]:
    return PlanModelLimit.objects.filter(plan=organization.plan_id).order_by("model")


# --- People ------------------------------------------------------------------------------


def get_members(organization: Organization) -> QuerySet[Membership]:
    """Memberships with their users, oldest first; ``has_second_factor`` tells of a second one."""
    return (
        Membership.objects.filter(organization=organization)
        .select_related("user")
        .annotate(has_second_factor=_has_second_factor("user_id"))
        .order_by("created_at", "pk")
    )


def find_members(organization: Organization, search: str) -> QuerySet[Membership]:
    """``get_members`` whose address or name holds the text."""
    found = Q(user__email__icontains=search) | Q(user__name__icontains=search)
    return get_members(organization).filter(found)


def find_member(organization: Organization, email: str) -> Membership | None:
    return get_members(organization).filter(user__email=email.strip().lower()).first()


def get_members_without_second_factor(organization: Organization) -> QuerySet[Membership]:
    return get_members(organization).filter(~Q(_has_second_factor("user_id")))


def _has_second_factor(user: str) -> Exists:
    """Recovery codes alone are none."""
    factors = apps.get_model("mfa", "Authenticator").objects
    return Exists(factors.filter(user_id=OuterRef(user), type__in=("totp", "webauthn")))


def get_open_invitations(organization: Organization) -> QuerySet[Invitation]:
    """Neither taken up nor withdrawn, newest first; some have expired."""
    return (
        Invitation.objects.filter(organization=organization, accepted_at=None, revoked_at=None)
        .select_related("invited_by")
        .order_by("-created_at", "-pk")
    )


# --- Groups and roles --------------------------------------------------------------------


def get_groups(organization: Organization) -> QuerySet[Group]:
    """With ``people`` and ``roles`` counted, by name."""
    return (
        Group.objects.filter(organization=organization)
        .annotate(
            people=_counted(GroupMember.objects.all(), "group"),
            roles=_counted(RoleAssignment.objects.all(), "group"),
        )
        .order_by("name", "pk")
    )


def get_group_members(group: Group) -> QuerySet[GroupMember]:
    return (
        GroupMember.objects.filter(organization=group.organization_id, group=group)
        .select_related("user", "group")
        .order_by("user__email")
    )


def get_custom_roles(organization: Organization) -> QuerySet[CustomRole]:
    """The organization's own, not those of one project, with ``holders`` counted, by name."""
    return (
        CustomRole.objects.filter(organization=organization, project=None)
        .annotate(holders=_counted(RoleAssignment.objects.all(), "role"))
        .order_by("name", "pk")
    )


def get_role_assignments(
    organization: Organization,
    *,
    role: CustomRole | None = None,
    group: Group | None = None,
    user: User | None = None,
) -> QuerySet[RoleAssignment]:
    """Who has which role, everywhere and in projects; narrowed by what is given."""
    given = {"role": role, "group": group, "user": user}
    return (
        RoleAssignment.objects.filter(
            organization=organization, **{name: value for name, value in given.items() if value}
        )
        .select_related("role", "user", "group", "project")
        .order_by("role__name", "pk")
    )


def get_groups_of(organization: Organization, user: User) -> QuerySet[Group]:
    return Group.objects.filter(organization=organization, members__user=user).order_by("name")


def get_projects_of(organization: Organization, user: User) -> QuerySet[ProjectMembership]:
    """A person's roles in live projects."""
    return (
        ProjectMembership.objects.filter(
            organization=organization, user=user, project__archived_at=None
        )
        .select_related("project")
        .order_by("project__name", "pk")
    )


# --- Names -------------------------------------------------------------------------------

# What a kind of object, as the audit trail calls it, is known by.
_NAMED: dict[str, tuple[type[Model], str]] = {
    "api_key": (ApiKey, "name"),
    "project": (Project, "name"),
    "service_account": (ServiceAccount, "name"),
    "group": (Group, "name"),
    "role": (CustomRole, "name"),
    "invite": (Invitation, "email"),
}


def get_object_names(
    organization: Organization, objects: Iterable[tuple[str, str]]
) -> dict[str, str]:
    """Names by public id of what is named by kind and public id; one query a kind.

    People are those who are members; what is gone or foreign has no name here.
    """
    wanted: dict[str, set[str]] = {}
    for kind, public_id in objects:
        wanted.setdefault(kind, set()).add(public_id)
    found: dict[str, str] = {}
    for kind, (model, name) in _NAMED.items():
        if kind in wanted:
            rows = model._default_manager.filter(
                organization=organization, public_id__in=wanted[kind]
            )
            found.update(rows.order_by().values_list("public_id", name))
    if "user" in wanted:
        members = Membership.objects.filter(
            organization=organization, user__public_id__in=wanted["user"]
        )
        found.update(members.order_by().values_list("user__public_id", "user__email"))
    return found
