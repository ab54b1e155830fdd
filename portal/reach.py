"""In which projects a member may do something: in all, in some, or in none."""

from __future__ import annotations

from dataclasses import dataclass

from django.utils.translation import gettext

from portal.room_words import in_words
from tenants import access, permissions
from tenants.errors import AccessDenied
from tenants.models import ApiKey, Membership, Project


@dataclass(frozen=True)
class Reach:
    everywhere: bool
    projects: frozenset[int] = frozenset()  # primary keys; not read where it is everywhere

    def __bool__(self) -> bool:
        return self.everywhere or bool(self.projects)

    @property
    def only(self) -> frozenset[int] | None:
        """For selectors: None asks for every project."""
        return None if self.everywhere else self.projects

    def covers(self, project: int | None) -> bool:
        """By primary key; what belongs to no project needs the permission everywhere."""
        return self.everywhere or (project is not None and project in self.projects)


def reach_of(membership: Membership, permission: str) -> Reach:
    if permission in permissions.OF_ROLE[membership.role]:
        return Reach(True)
    actor = access.actor_of(membership)
    if permission in actor.everywhere:
        return Reach(True)
    projects = (pk for pk, held in actor.in_project.items() if permission in held)
    return Reach(False, frozenset(projects))


def check_reach(membership: Membership, permission: str) -> Reach:
    """The same; AccessDenied where it is nowhere."""
    reach = reach_of(membership, permission)
    if not reach:
        raise AccessDenied(
            gettext("Your role (%(role)s) does not allow this.")
            % {"role": in_words(membership.get_role_display())}
        )
    return reach


def may_mint(membership: Membership, kind: str, project: Project | None) -> bool:
    """Whether a member may hold a new secret of this kind.

    A service account's key outlives whoever made it, so that takes more than a key of
    one's own.
    """
    if kind == ApiKey.Kind.ADMIN:
        return access.is_allowed(membership, "admin_key.manage")
    needed = {"key.create"}
    if kind == ApiKey.Kind.SERVICE_ACCOUNT:
        needed.add("service_account.manage")
    return all(access.is_allowed(membership, name, project) for name in needed)


def check_may_change(membership: Membership, key: ApiKey) -> None:
    """Editing a key widens it, and rotating it shows its secret: both take what minting takes.

    An admin key's secret is worth its permissions, so nobody gets at one that has more
    than they have themselves.
    """
    if not may_mint(membership, key.kind, key.project):
        raise AccessDenied(
            gettext("Your role (%(role)s) does not allow this.")
            % {"role": in_words(membership.get_role_display())}
        )
    if key.kind == ApiKey.Kind.ADMIN:
        held = frozenset(key.scopes) or permissions.ALL
        access.actor_of(membership).check_gives(held)


def check_may_stop(membership: Membership, key: ApiKey) -> None:
    """Suspending, restoring, revoking."""
    permission = "admin_key.manage" if key.kind == ApiKey.Kind.ADMIN else "key.revoke"
    access.check_permission(membership, permission, key.project)
