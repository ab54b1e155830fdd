"""Every change to tenants: one function and one transaction each, audited.

Changes that gateways cache are announced by ``notify_change`` in the same
transaction: PostgreSQL delivers the notice when, and only when, it commits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from django.conf import settings
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from tenants import audit, identifiers, keys
from tenants.errors import AlreadyDone, InvalidInput, OrganizationSuspended
from tenants.models import ApiKey, Membership, Organization, Plan, Project, Role, User
from tenants.plans import DEFAULT_PLANS, PlanTerms

CHANNEL = "tenants_changed"


def notify_change(organization: Organization) -> None:
    """Tell every gateway, on commit, to forget what it knows of this organization's keys."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, %s)", [CHANNEL, str(organization.pk)])


def notify_all_changed() -> None:
    """The same for every organization, after a plan changed."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, '*')", [CHANNEL])


@transaction.atomic
def create_organization(
    name: str,
    *,
    acting_user: User,
    owner: User | None = None,
    plan: Plan | None = None,
    address: str | None = None,
) -> Organization:
    """A new organization with a project; owner is ``acting_user``, plan the default, unless given."""
    name = _checked_name(name)
    plan = plan or Plan.objects.filter(is_default=True).first()
    if plan is None:
        raise InvalidInput("This installation has no default plan; ask its staff to set one.")
    organization = Organization.objects.create(name=name, plan=plan)
    Project.objects.create(organization=organization, name="Default project")
    Membership.objects.create(organization=organization, user=owner or acting_user, role=Role.OWNER)
    audit.record_event(
        acting_user=acting_user,
        action="organization.created",
        object_type="organization",
        object_id=organization.public_id,
        organization=organization,
        after={"name": name, "plan": plan.slug},
        address=address,
    )
    return organization


@transaction.atomic
def create_api_key(
    project: Project,
    name: str,
    *,
    acting_user: User | None,
    expires_at: datetime | None = None,
    public_id: str | None = None,
    address: str | None = None,
) -> tuple[ApiKey, str]:
    """A new key and its secret's text, which nothing can show again.

    With a ``public_id`` minted beforehand the call is idempotent: the second one
    raises ``AlreadyDone`` and creates nothing, however close it came.
    """
    name = _checked_name(name)
    if project.organization.is_suspended:
        raise OrganizationSuspended("This organization is suspended; it cannot create keys.")
    if expires_at is not None and expires_at <= timezone.now():
        raise InvalidInput("The expiry must lie in the future.", param="expires_at")
    secret = keys.new_secret(settings.API_KEY_PEPPER)
    # get_or_create leaves the race of two equal submissions to the unique constraint.
    key, is_new = ApiKey.objects.get_or_create(
        public_id=public_id or identifiers.new_key_id(),
        defaults={
            "organization": project.organization,
            "project": project,
            "created_by": acting_user,
            "name": name,
            "lookup": secret.lookup,
            "secret_hmac": secret.digest,
            "last_four": secret.last_four,
            "expires_at": expires_at,
        },
    )
    if not is_new:
        raise AlreadyDone("This key was created before.")
    audit.record_event(
        acting_user=acting_user,
        action="api_key.created",
        object_type="api_key",
        object_id=key.public_id,
        organization=project.organization,
        after={"name": name, "project": project.public_id, "last_four": key.last_four},
        address=address,
    )
    return key, secret.text


@transaction.atomic
def revoke_api_key(key: ApiKey, *, acting_user: User | None, address: str | None = None) -> ApiKey:
    """Revoke now; every gateway refuses the key within a second. Twice is once."""
    revoked = ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=timezone.now())
    key.refresh_from_db()
    if revoked:
        audit.record_event(
            acting_user=acting_user,
            action="api_key.revoked",
            object_type="api_key",
            object_id=key.public_id,
            organization=key.organization,
            before={"name": key.name, "last_four": key.last_four},
            address=address,
        )
    notify_change(key.organization)
    return key


@transaction.atomic
def set_organization_suspended(
    organization: Organization,
    suspended: bool,
    *,
    acting_user: User | None,
    reason: str = "",
    address: str | None = None,
) -> Organization:
    """Suspend or restore; requests of a suspended organization are refused within a second."""
    before = {"suspended": organization.is_suspended}
    organization.suspended_at = timezone.now() if suspended else None
    organization.suspended_reason = reason if suspended else ""
    organization.save(update_fields=["suspended_at", "suspended_reason"])
    audit.record_event(
        acting_user=acting_user,
        action="organization.suspended" if suspended else "organization.restored",
        object_type="organization",
        object_id=organization.public_id,
        organization=organization,
        before=before,
        after={"suspended": suspended, "reason": reason},
        address=address,
    )
    notify_change(organization)
    return organization


@transaction.atomic
def update_organization(
    organization: Organization,
    changes: dict[str, Any],
    *,
    acting_user: User | None,
    address: str | None = None,
) -> Organization:
    """Set the given fields (already validated by a form) and announce the change."""
    if "name" in changes:
        changes = changes | {"name": _checked_name(changes["name"])}
    before = {field: str(getattr(organization, field)) for field in changes}
    for field, value in changes.items():
        setattr(organization, field, value)
    organization.save(update_fields=list(changes))
    audit.record_event(
        acting_user=acting_user,
        action="organization.updated",
        object_type="organization",
        object_id=organization.public_id,
        organization=organization,
        before=before,
        after={field: str(value) for field, value in changes.items()},
        address=address,
    )
    notify_change(organization)
    return organization


@transaction.atomic
def create_project(
    organization: Organization, name: str, *, acting_user: User | None, address: str | None = None
) -> Project:
    name = _checked_name(name)
    try:
        with transaction.atomic():
            project = Project.objects.create(organization=organization, name=name)
    except IntegrityError as error:
        raise InvalidInput("A project of this name exists.", param="name") from error
    audit.record_event(
        acting_user=acting_user,
        action="project.created",
        object_type="project",
        object_id=project.public_id,
        organization=organization,
        after={"name": name},
        address=address,
    )
    return project


@transaction.atomic
def create_plan(terms: PlanTerms, *, acting_user: User | None, address: str | None = None) -> Plan:
    try:
        with transaction.atomic():
            plan = Plan.objects.create(**asdict(terms))
    except IntegrityError as error:
        raise InvalidInput("This plan, or another default one, exists.", param="slug") from error
    audit.record_event(
        acting_user=acting_user,
        action="plan.created",
        object_type="plan",
        object_id=terms.slug,
        after=asdict(terms),
        address=address,
    )
    return plan


@transaction.atomic
def ensure_default_plans(*, acting_user: User | None) -> list[Plan]:
    """The default plans if there is no plan at all; returns the new ones.

    Not one by one: a plan that staff renamed or deleted must not come back.
    """
    if Plan.objects.exists():
        return []
    return [create_plan(terms, acting_user=acting_user) for terms in DEFAULT_PLANS]


@transaction.atomic
def create_staff_user(
    email: str, password: str, *, acting_user: User | None, address: str | None = None
) -> User:
    """A superuser of the staff admin; the password must pass the validators."""
    email = email.strip().lower()
    user = User(email=email, name=email.partition("@")[0][:120], is_staff=True, is_superuser=True)
    try:
        user.clean_fields(exclude=["password"])
        validate_password(password, user)
    except ValidationError as error:
        raise InvalidInput(" ".join(error.messages)) from error
    user.set_password(password)
    try:
        with transaction.atomic():
            user.save(force_insert=True)
    except IntegrityError as error:
        raise InvalidInput("A user with this address exists.", param="email") from error
    audit.record_event(
        acting_user=acting_user,
        action="staff_user.created",
        object_type="user",
        object_id=str(user.pk),
        after={"email": email, "is_staff": True, "is_superuser": True},
        address=address,
    )
    return user


def touch_api_keys(last_used: Mapping[int, datetime]) -> int:
    """Move ``last_used_at`` of the keys (by primary key) forward; returns how many moved.

    A row that another transaction holds is skipped: that one is touching it too, or
    changing something that matters more than this moment.
    """
    if not last_used:
        return 0
    with connection.cursor() as cursor:
        cursor.execute(
            """
            UPDATE tenants_apikey SET last_used_at = moved.at
            FROM (
                SELECT key.id, used.at
                FROM unnest(%s::bigint[], %s::timestamptz[]) AS used(id, at)
                JOIN tenants_apikey AS key ON key.id = used.id
                WHERE key.last_used_at IS NULL OR key.last_used_at < used.at
                FOR NO KEY UPDATE OF key SKIP LOCKED
            ) AS moved
            WHERE tenants_apikey.id = moved.id
            """,
            [list(last_used), list(last_used.values())],
        )
        return cursor.rowcount


def _checked_name(name: str) -> str:
    name = name.strip()
    if not name:
        raise InvalidInput("A name is required.", param="name")
    if len(name) > 120:
        raise InvalidInput("A name has at most 120 characters.", param="name")
    if not name.isprintable():
        raise InvalidInput("A name has printable characters only.", param="name")
    return name
