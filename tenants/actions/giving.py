"""Nobody gives more than they have: for actions that are told who acts, not what they may."""

from __future__ import annotations

from tenants import access, audit, scope
from tenants.errors import AccessDenied
from tenants.models import Membership, Organization, Project, User


def check_gives(
    organization: Organization,
    given: frozenset[str],
    project: Project | None = None,
    *,
    acting_user: User | None,
) -> None:
    """AccessDenied unless who acts has ``given`` themselves, everywhere or in the project.

    A person by their membership, a program by its admin key; staff and the platform
    (neither a person nor a program) give everything.
    """
    actor = _actor(organization, acting_user)
    if actor is not None:
        actor.check_gives(given, project)


def _actor(organization: Organization, acting_user: User | None) -> access.Actor | None:
    if acting_user is None:
        key = audit.acting_key()
        if key is None:
            return None
        if key.organization_id != organization.pk:
            raise AccessDenied("This key is of another organization.")
        return access.get_key_actor(key)
    if scope.current().login is scope.Login.STAFF and acting_user.is_staff:
        return None
    with scope.for_organization(organization.pk):
        membership = (
            Membership.objects.filter(organization=organization, user=acting_user)
            .select_related("organization", "user")
            .first()
        )
        if membership is None:
            raise AccessDenied("Only members give access to an organization.")
        return access.get_actor(membership)
