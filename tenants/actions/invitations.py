"""Invitations by e-mail: their link works once, for the address that it was sent to."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction
from django.utils import timezone

from tenants import access, audit, identifiers, permissions, scope
from tenants.actions.members import checked_role
from tenants.errors import InvalidInput, InvitationInvalid, OrganizationSuspended
from tenants.models import (
    Invitation,
    Membership,
    Organization,
    Project,
    ProjectMembership,
    ProjectRole,
    User,
)

LIFETIME = timedelta(days=7)
TOKEN_LENGTH = 40  # 238 random bits
# A bound on mail that one organization can make us send.
MOST_PENDING = 500
MOST_PROJECTS = 50


def digest_of(token: str) -> str:
    """What is stored of a link's secret; random enough to need no salt."""
    return hashlib.sha256(token.encode()).hexdigest()


@transaction.atomic
def invite_member(
    organization: Organization,
    email: str,
    role: str,
    *,
    projects: list[dict[str, str]] | None = None,
    actor: access.Actor,
    address: str | None = None,
) -> tuple[Invitation, str]:
    """An invitation and its link's secret, to be mailed once this is committed.

    Inviting an address again replaces the invitation that is open.
    """
    email, role = _checked_email(email), checked_role(role)
    actor.check_gives(permissions.OF_ROLE[role])
    if organization.is_suspended:
        raise OrganizationSuspended("This organization is suspended; it cannot invite anybody.")
    chosen = _checked_projects(organization, projects or [], actor)
    replaced = _withdraw_open(organization, email)
    token = identifiers.random_text(TOKEN_LENGTH)
    try:
        with transaction.atomic():
            invitation = Invitation.objects.create(
                organization=organization,
                email=email,
                role=role,
                projects=chosen,
                token_digest=digest_of(token),
                invited_by=actor.user,
                expires_at=timezone.now() + LIFETIME,
            )
    except IntegrityError as error:  # two at once: the other one stands
        raise InvalidInput("This address is being invited already.", param="email") from error
    after = {"email": email, "role": role, "projects": chosen, "replaced": replaced}
    _record(invitation, "invite.sent", actor.user, address, after)
    return invitation, token


def _withdraw_open(organization: Organization, email: str) -> int:
    """How many invitations the new one stands in place of."""
    if Membership.objects.filter(organization=organization, user__email=email).exists():
        raise InvalidInput("This person is a member already.", param="email")
    pending = Invitation.objects.filter(
        organization=organization, accepted_at=None, revoked_at=None
    )
    replaced = pending.filter(email=email).update(revoked_at=timezone.now())
    if pending.filter(expires_at__gt=timezone.now()).count() >= MOST_PENDING:
        raise InvalidInput(f"At most {MOST_PENDING} invitations can be open.", param="email")
    return replaced


def _checked_email(email: str) -> str:
    email = email.strip().lower()
    try:
        validate_email(email)
    except ValidationError as error:
        raise InvalidInput("This is no e-mail address.", param="email") from error
    if len(email) > 254:
        raise InvalidInput("An e-mail address has at most 254 characters.", param="email")
    return email


def _checked_projects(
    organization: Organization, projects: list[dict[str, str]], actor: access.Actor
) -> list[dict[str, str]]:
    if len(projects) > MOST_PROJECTS:
        raise InvalidInput(f"At most {MOST_PROJECTS} projects.", param="projects")
    for entry in projects:
        project = access.access_project(organization, str(entry.get("id", "")))
        if entry.get("role") not in ProjectRole.values:
            raise InvalidInput(
                f"A project role is one of {', '.join(ProjectRole.values)}.", param="projects"
            )
        actor.check_gives(permissions.OF_PROJECT_ROLE[entry["role"]], project)
    return [{"id": entry["id"], "role": entry["role"]} for entry in projects]


@transaction.atomic
def revoke_invitation(
    invitation: Invitation, *, acting_user: User | None, address: str | None = None
) -> Invitation:
    """Make its link useless. Twice is once; an accepted one stays."""
    revoked = Invitation.objects.filter(pk=invitation.pk, accepted_at=None, revoked_at=None).update(
        revoked_at=timezone.now()
    )
    invitation.refresh_from_db()
    if revoked:
        _record(invitation, "invite.deleted", acting_user, address, {"email": invitation.email})
    return invitation


def get_open_invitation(token: str, user: User | None = None) -> Invitation:
    """The invitation of a link that still works, else InvitationInvalid whatever the reason."""
    with scope.for_invitation(digest_of(token), user.pk if user else None):
        invitation = Invitation.objects.filter(token_digest=digest_of(token)).first()
    if invitation is None or invitation.status != Invitation.Status.PENDING:
        raise InvitationInvalid("This invitation has expired, was used, or was withdrawn.")
    return invitation


def accept_invitation(token: str, *, user: User, address: str | None = None) -> Membership:
    """Make ``user`` a member; only who owns the invited address, and only once."""
    invitation = get_open_invitation(token, user)
    if user.email.lower() != invitation.email:
        raise InvitationInvalid("This invitation was sent to another address.")
    with scope.for_organization(invitation.organization_id), transaction.atomic():
        # Of two clicks one finds it open.
        taken = Invitation.objects.filter(
            pk=invitation.pk, accepted_at=None, revoked_at=None, expires_at__gt=timezone.now()
        ).update(accepted_at=timezone.now(), accepted_by=user)
        if not taken:
            raise InvitationInvalid("This invitation has expired, was used, or was withdrawn.")
        invitation.refresh_from_db()
        membership = _join(invitation, user)
        after = {"email": invitation.email, "role": membership.role}
        _record(invitation, "invite.accepted", user, address, after)
    return membership


def _join(invitation: Invitation, user: User) -> Membership:
    membership, _ = Membership.objects.get_or_create(
        organization_id=invitation.organization_id, user=user, defaults={"role": invitation.role}
    )
    roles = {entry["id"]: entry["role"] for entry in invitation.projects}
    projects = Project.objects.filter(
        organization=invitation.organization_id, public_id__in=roles, archived_at=None
    )
    for project in projects:
        ProjectMembership.objects.get_or_create(
            project=project,
            user=user,
            defaults={
                "organization_id": invitation.organization_id,
                "role": roles[project.public_id],
            },
        )
    return membership


def _record(
    invitation: Invitation,
    action: str,
    acting_user: User | None,
    address: str | None,
    after: dict[str, Any],
) -> None:
    audit.record_event(
        acting_user=acting_user,
        action=action,
        object_type="invite",
        object_id=invitation.public_id,
        organization=invitation.organization,
        after=after,
        address=address,
    )
