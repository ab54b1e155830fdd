"""The named cast of the tests: who calls, from which organization, with which key.

``build_cast()`` makes them in the database that is current; tests name them by
role, so that a denial reads as one: ``client.force_login(cast.stranger)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from django.contrib.auth.hashers import make_password

from tenants import actions
from tenants.models import ApiKey, Membership, Organization, Plan, Project, Role, User

PASSWORD = "correct horse battery staple"


@dataclass(frozen=True)
class Cast:
    """Two organizations that must never see each other, a suspended one, and staff.

    ``*_key`` is a key's secret text, ``*_api_key`` its row.
    """

    owner: User
    admin: User
    member: User  # a developer
    billing: User
    viewer: User
    stranger: User  # owner of another organization
    suspended: User  # owner of a suspended one
    staff: User  # a superuser, member of nothing
    organization: Organization
    other_organization: Organization
    suspended_organization: Organization
    project: Project
    other_project: Project
    owner_api_key: ApiKey
    owner_key: str
    stranger_api_key: ApiKey
    stranger_key: str
    suspended_api_key: ApiKey
    suspended_key: str
    owner_admin_api_key: ApiKey
    owner_admin_key: str
    stranger_admin_api_key: ApiKey
    stranger_admin_key: str
    suspended_admin_api_key: ApiKey
    suspended_admin_key: str


@cache
def _password_hash() -> str:
    """Argon2 is slow by design; the whole suite shares one hash of the one password."""
    return make_password(PASSWORD)


def make_user(name: str, **fields: object) -> User:
    """``<name>@example.com`` with the cast's password."""
    return User.objects.create(
        email=f"{name}@example.com",
        name=name.title(),
        password=_password_hash(),
        **fields,
    )


def default_plan() -> Plan:
    """The plan of new organizations; generous, so that only tests of limits meet limits."""
    plan, _ = Plan.objects.get_or_create(
        is_default=True,
        defaults={"slug": "test", "name": "Test", "requests_per_minute": 10_000},
    )
    return plan


def build_cast() -> Cast:
    default_plan()
    people = {
        name: make_user(name)
        for name in (
            "owner",
            "admin",
            "member",
            "billing",
            "viewer",
            "stranger",
            "suspended",
        )
    }
    staff = make_user("staff", is_staff=True, is_superuser=True)
    organization = actions.create_organization("Acme", acting_user=people["owner"])
    other = actions.create_organization("Other", acting_user=people["stranger"])
    suspended = actions.create_organization("Suspended", acting_user=people["suspended"])
    for name, role in (
        ("admin", Role.ADMIN),
        ("member", Role.DEVELOPER),
        ("billing", Role.BILLING),
        ("viewer", Role.VIEWER),
    ):
        Membership.objects.create(organization=organization, user=people[name], role=role)
    project = organization.projects.get()
    other_project = other.projects.get()
    owner_key = actions.create_api_key(project, "Owner's key", acting_user=people["owner"])
    stranger_key = actions.create_api_key(
        other_project, "Stranger's key", acting_user=people["stranger"]
    )
    suspended_key = actions.create_api_key(
        suspended.projects.get(), "Suspended key", acting_user=people["suspended"]
    )
    owner_admin = actions.create_api_key(organization, "Admin", acting_user=people["owner"])
    stranger_admin = actions.create_api_key(other, "Admin", acting_user=people["stranger"])
    suspended_admin = actions.create_api_key(suspended, "Admin", acting_user=people["suspended"])
    suspended = actions.set_organization_suspended(
        suspended, True, acting_user=staff, reason="Unpaid"
    )
    return Cast(
        **people,
        staff=staff,
        organization=organization,
        other_organization=other,
        suspended_organization=suspended,
        project=project,
        other_project=other_project,
        owner_api_key=owner_key[0],
        owner_key=owner_key[1],
        stranger_api_key=stranger_key[0],
        stranger_key=stranger_key[1],
        suspended_api_key=suspended_key[0],
        suspended_key=suspended_key[1],
        owner_admin_api_key=owner_admin[0],
        owner_admin_key=owner_admin[1],
        stranger_admin_api_key=stranger_admin[0],
        stranger_admin_key=stranger_admin[1],
        suspended_admin_api_key=suspended_admin[0],
        suspended_admin_key=suspended_admin[1],
    )
