"""Organizations: made, changed, suspended."""

from __future__ import annotations

from typing import Any

from django.db import connection, transaction
from django.utils import timezone

from tenants import audit, scope
from tenants.actions.names import checked_name
from tenants.actions.notices import notify_change
from tenants.actions.projects import checked_limit
from tenants.errors import InvalidInput
from tenants.models import Membership, Organization, Plan, Project, Role, User


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
    name = checked_name(name)
    plan = plan or Plan.objects.filter(is_default=True).first()
    if plan is None:
        raise InvalidInput("This installation has no default plan; ask its staff to set one.")
    # Its own scope is what lets the web role write it, so its id comes first.
    pk = _next_organization()
    with scope.for_organization(pk):
        organization = Organization.objects.create(pk=pk, name=name, plan=plan)
        Project.objects.create(organization=organization, name="Default project")
        Membership.objects.create(
            organization=organization, user=owner or acting_user, role=Role.OWNER
        )
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


def _next_organization() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT nextval('tenants_organization_id_seq')")
        return int(cursor.fetchone()[0])


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
def set_spend_limit(
    organization: Organization,
    micros: int | None,
    *,
    acting_user: User | None,
    address: str | None = None,
) -> Organization:
    """What the organization wants to spend a month at most; its plan's budget holds besides."""
    micros = checked_limit(micros, "monthly_budget_micros")
    before = {"spend_limit_micros": organization.spend_limit_micros}
    organization.spend_limit_micros = micros
    organization.save(update_fields=["spend_limit_micros"])
    audit.record_event(
        acting_user=acting_user,
        action="organization.updated",
        object_type="organization",
        object_id=organization.public_id,
        organization=organization,
        before=before,
        after={"spend_limit_micros": micros},
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
        changes = changes | {"name": checked_name(changes["name"])}
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
