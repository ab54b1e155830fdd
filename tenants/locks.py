"""Row locks, each taken in one place, ordered by primary key."""

from __future__ import annotations

from collections.abc import Collection

from django.db.models import Q
from django.db.models.functions import Now

from tenants.errors import InvalidInput, NotFound
from tenants.models import (
    CustomRole,
    IdempotentRequest,
    Job,
    Membership,
    Organization,
    Role,
    ServiceAccount,
)


def lock_member_and_owners(membership: Membership) -> list[Membership]:
    """Brings the member's role up to date; returns the organization's owners. All are held
    until the transaction ends.

    All at once, in the order of their keys: whoever changes a role decides by what it
    is, and no two changes wait for each other in a circle.
    """
    rows = list(
        Membership.objects.select_for_update(no_key=True)
        .filter(Q(role=Role.OWNER) | Q(pk=membership.pk), organization=membership.organization_id)
        .order_by("pk")
    )
    found = next((row for row in rows if row.pk == membership.pk), None)
    if found is None:
        raise NotFound("No such user.", param="user_id")
    membership.role = found.role
    return [row for row in rows if row.role == Role.OWNER]


def lock_organization(organization: Organization) -> None:
    """Held until the transaction ends, so that what is counted before it grows is counted
    by one after another."""
    Organization.objects.select_for_update(no_key=True, of=("self",)).get(pk=organization.pk)


def lock_custom_role(role: CustomRole) -> None:
    """Brings the role up to date and holds it: what it gives is compared with what the actor
    has."""
    rows = CustomRole.objects.select_for_update(no_key=True)
    found = rows.filter(pk=role.pk, organization=role.organization_id).first()
    if found is None:
        raise NotFound("No such role.", param="role_id")
    for name in ("name", "description", "permissions"):
        setattr(role, name, getattr(found, name))


def lock_service_account(account: ServiceAccount) -> ServiceAccount:
    """The account, so that no key is made for one that is being deleted."""
    found = (
        ServiceAccount.objects.select_for_update(of=("self",), no_key=True)
        .filter(pk=account.pk, organization=account.organization_id, deleted_at=None)
        .select_related("organization", "project")
        .first()
    )
    if found is None:
        raise InvalidInput("This service account was deleted.", param="service_account_id")
    return found


def lock_idempotent_request(pk: int) -> IdempotentRequest | None:
    """The row, held until the transaction ends; None if another holds it or it is gone."""
    rows = IdempotentRequest.objects.select_for_update(skip_locked=True, of=("self",))
    return rows.filter(pk=pk).first()


# --- Jobs: whoever finds a row locked passes it over, for its holder may be frozen --------


def lock_waiting_jobs(pks: Collection[int]) -> list[Job]:
    """Those of them that still wait and that nobody else has locked."""
    jobs = Job.objects.select_for_update(skip_locked=True, of=("self",), no_key=True)
    return list(jobs.filter(pk__in=pks, state=Job.State.QUEUED).order_by("pk"))


def lock_running_jobs(pks: Collection[int]) -> list[Job]:
    jobs = Job.objects.select_for_update(skip_locked=True, of=("self",), no_key=True)
    running = jobs.filter(pk__in=pks, state=Job.State.RUNNING)
    return list(running.only("fencing_token").order_by("pk"))


def lock_expired_jobs(most: int) -> list[Job]:
    """Running ones whose lease has run out."""
    jobs = Job.objects.select_for_update(skip_locked=True, of=("self",), no_key=True)
    expired = jobs.filter(state=Job.State.RUNNING, lease_expires_at__lt=Now())
    return list(expired.only("kind", "attempts", "max_attempts").order_by("pk")[:most])


def lock_held_job(pk: int, token: int) -> Job | None:
    """The running job if this is still its token, held until the transaction ends."""
    jobs = Job.objects.select_for_update(of=("self",), no_key=True)
    return jobs.filter(pk=pk, fencing_token=token, state=Job.State.RUNNING).first()


def lock_job(job: Job) -> Job | None:
    """The job as it is now; None while its holder is ending it."""
    jobs = Job.objects.select_for_update(skip_locked=True, of=("self",), no_key=True)
    return jobs.filter(pk=job.pk).select_related("organization").first()
