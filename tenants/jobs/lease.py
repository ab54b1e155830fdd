"""A claimed job stays with its holder for as long as the holder says so in time.

Every clock is the database's: the workers' own may differ.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now

from tenants import locks
from tenants.jobs.held import HeldJob
from tenants.models import Job

# A killed worker's jobs are found after this and the sweeper's 5 s: within the 30 s that
# are promised. Renewed every third of it, so that two renewals may fail.
LEASE_S = 15.0


def mine(job: HeldJob) -> dict[str, object]:
    """The condition of every change: whoever was fenced off finds no row."""
    return {"pk": job.pk, "fencing_token": job.token, "state": Job.State.RUNNING}


@transaction.atomic
def renew(jobs: Iterable[HeldJob], lease_s: float = LEASE_S) -> set[int]:
    """Extend the leases; returns the primary keys of jobs that are lost.

    A row that is locked is passed over: it is being ended, by its holder or by a member
    who cancels it, and waiting for it would let the other leases run out.
    """
    tokens = {job.pk: job.token for job in jobs}
    running = Job.objects.filter(pk__in=tokens, state=Job.State.RUNNING)
    still = {pk for pk, token in running.values_list("pk", "fencing_token") if tokens[pk] == token}
    locked = locks.lock_running_jobs(still)
    kept = [job.pk for job in locked if job.fencing_token == tokens[job.pk]]
    Job.objects.filter(pk__in=kept).update(lease_expires_at=Now() + timedelta(seconds=lease_s))
    return tokens.keys() - still


def release(job: HeldJob, *, until: datetime | None = None) -> bool:
    """Hand the job back at once, as a worker does that is asked to stop: no attempt was made,
    and it keeps its place in line, or has one from ``until`` on."""
    later = {} if until is None else {"run_after": until}
    return bool(
        Job.objects.filter(**mine(job)).update(
            state=Job.State.QUEUED,
            attempts=F("attempts") - 1,
            lease_owner="",
            lease_expires_at=None,
            **later,
        )
    )
