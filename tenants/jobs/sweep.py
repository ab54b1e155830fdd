"""What no message tells: workers that died with a job, and jobs that ended long ago."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta

from django.db import transaction
from django.db.models.functions import Now

from tenants import locks
from tenants.jobs.outcome import ENDED
from tenants.jobs.wake import wake_workers
from tenants.models import Job

KEPT_FOR = timedelta(days=30)
_MOST_AT_ONCE = 500
_PURGED_AT_ONCE = 10_000
# One message wakes one worker, which then goes on by itself.
_MOST_WOKEN = 8
DIED = "The worker that ran it died or was cut off, {attempts} times."


@dataclass(frozen=True)
class Swept:
    """Leases that had run out, by kind; ``given_up`` had no attempt left."""

    requeued: Counter[str] = field(default_factory=Counter)
    given_up: Counter[str] = field(default_factory=Counter)


def sweep() -> Swept:
    """Put jobs whose lease ran out back in line, and wake workers if anything is due."""
    swept = requeue_expired()
    due = Job.objects.filter(state=Job.State.QUEUED, run_after__lte=Now())
    waiting = len(due.order_by().values_list("pk")[:_MOST_WOKEN])
    if waiting:
        wake_workers(waiting)
    return swept


@transaction.atomic
def requeue_expired() -> Swept:
    """Whoever held it may still be running: its token is old as soon as the next one claims,
    and its lease is gone now, so that it can end nothing."""
    swept = Swept()
    for job in locks.lock_expired_jobs(_MOST_AT_ONCE):
        row = Job.objects.filter(pk=job.pk)
        if job.attempts < job.max_attempts:
            # It keeps its place in line: it has waited long enough.
            row.update(state=Job.State.QUEUED, lease_owner="", lease_expires_at=None)
            swept.requeued[job.kind] += 1
        else:
            # A job that kills its workers is not given to another.
            told = DIED.format(attempts=job.attempts)
            row.update(state=Job.State.FAILED, error=told, **ENDED)
            swept.given_up[job.kind] += 1
    return swept


def purge_jobs() -> int:
    """Forget what ended a month ago; returns how many. Their effects could happen again then,
    if somebody asked for them again."""
    old = Job.objects.filter(finished_at__lt=Now() - KEPT_FOR)
    pks = list(old.order_by("finished_at").values_list("pk", flat=True)[:_PURGED_AT_ONCE])
    return Job.objects.filter(pk__in=pks).delete()[0]
