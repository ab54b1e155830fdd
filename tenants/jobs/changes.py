"""What people change of a job: cancel it, try it again."""

from __future__ import annotations

from django.db import transaction
from django.db.models.functions import Now

from tenants import audit, locks
from tenants.errors import AlreadyDone
from tenants.jobs.outcome import ENDED
from tenants.jobs.wake import wake_workers
from tenants.models import Job, User


@transaction.atomic
def cancel_job(job: Job, *, acting_user: User | None, address: str | None = None) -> Job:
    """Whoever runs it is fenced off at once and learns of it within seconds."""
    locked = locks.lock_job(job)
    if locked is None:
        raise AlreadyDone("This job is ending right now; it is too late to cancel it.")
    if locked.is_finished:
        raise AlreadyDone("This job has ended.")
    Job.objects.filter(pk=job.pk).update(state=Job.State.CANCELLED, sealed=None, **ENDED)
    _record(locked, "job.cancelled", acting_user, address)
    job.refresh_from_db()
    return job


@transaction.atomic
def retry_job(job: Job, *, acting_user: User | None, address: str | None = None) -> Job:
    """From the beginning, with all its attempts; only what failed and still has its secret."""
    locked = locks.lock_job(job)
    if locked is None or locked.state != Job.State.FAILED:
        raise AlreadyDone("Only a job that failed can be tried again.")
    Job.objects.filter(pk=job.pk).update(
        state=Job.State.QUEUED,
        attempts=0,
        run_after=Now(),
        lease_owner="",
        finished_at=None,
        error="",
    )
    _record(locked, "job.retried", acting_user, address)
    transaction.on_commit(wake_workers, robust=True)
    job.refresh_from_db()
    return job


def _record(job: Job, action: str, acting_user: User | None, address: str | None) -> None:
    audit.record_event(
        acting_user=acting_user,
        action=action,
        object_type="job",
        object_id=job.public_id,
        organization=job.organization,
        before={"kind": job.kind, "state": job.state, "attempts": job.attempts},
        address=address,
    )
