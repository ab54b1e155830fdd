"""Who is next: urgent first, then the organization with the least running, then the oldest."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.db import connection, transaction
from django.db.models.functions import Now

from tenants import locks
from tenants.jobs.held import HeldJob, held_of
from tenants.jobs.idle import bounded_idle
from tenants.jobs.lease import LEASE_S
from tenants.models import Job

# Any number: claims are made one after another, so that bounds and fairness are exact.
_LOCK = 7_302_118
# A worker that is frozen while it claims must not keep the others from claiming.
_FROZEN_S = 2.0
# Rows that somebody else has locked are passed over, not waited for.
_SPARE = 8

# ``tenant`` walks the index from one tenant that waits to the next, so that a claim costs
# the same beside a hundred thousand rows of one of them. Tenant 0 is the platform.
_PICK = """
WITH RECURSIVE tenant AS (
    (SELECT coalesce(organization_id, 0) AS key FROM tenants_job
        WHERE state = 'queued' ORDER BY 1 LIMIT 1)
    UNION ALL
    SELECT (SELECT coalesce(organization_id, 0) FROM tenants_job
        WHERE state = 'queued' AND coalesce(organization_id, 0) > tenant.key ORDER BY 1 LIMIT 1)
    FROM tenant WHERE tenant.key IS NOT NULL
),
busy AS (
    SELECT coalesce(organization_id, 0) AS key, count(*) AS running FROM tenants_job
    WHERE state = 'running' GROUP BY 1
),
line AS (
    SELECT tenant.key, head.*, coalesce(busy.running, 0) + row_number() OVER (
        PARTITION BY tenant.key ORDER BY head.priority, head.run_after, head.id) AS place
    FROM tenant LEFT JOIN busy USING (key)
    CROSS JOIN LATERAL (
        SELECT id, priority, run_after FROM tenants_job
        WHERE state = 'queued' AND coalesce(organization_id, 0) = tenant.key
            AND priority <= %(least_urgent)s AND run_after <= statement_timestamp()
        ORDER BY priority, run_after, id LIMIT %(most)s
    ) AS head
    WHERE tenant.key = 0 OR coalesce(busy.running, 0) < %(each)s
)
SELECT id FROM line WHERE key = 0 OR place <= %(each)s
ORDER BY priority, place, run_after, id LIMIT %(most)s
"""


@transaction.atomic
def claim(
    owner: str, most: int = 1, *, least_urgent: int = Job.Priority.LOW, lease_s: float = LEASE_S
) -> list[HeldJob]:
    """Lease up to ``most`` due jobs to ``owner``, each under a new fencing token.

    ``JOBS_PER_ORGANIZATION`` bounds what runs at once for one; the platform's own jobs
    are not bounded.
    """
    with bounded_idle(_FROZEN_S):
        line = _line(most + _SPARE, least_urgent)
        waiting = locks.lock_waiting_jobs(list(line)) if line else []
        jobs = sorted(waiting, key=lambda job: line[job.pk])[:most]
        for job in jobs:
            _lease(job, owner, lease_s)
    return [held_of(job) for job in jobs]


def _line(most: int, least_urgent: int) -> dict[int, int]:
    """Who may be next, by primary key, and each one's place; nobody else claims meanwhile."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        cursor.execute(
            _PICK,
            {"most": most, "least_urgent": least_urgent, "each": settings.JOBS_PER_ORGANIZATION},
        )
        return {pk: place for place, (pk,) in enumerate(cursor.fetchall())}


def _lease(job: Job, owner: str, lease_s: float) -> None:
    job.attempts += 1
    job.fencing_token += 1
    Job.objects.filter(pk=job.pk).update(
        state=Job.State.RUNNING,
        attempts=job.attempts,
        fencing_token=job.fencing_token,
        lease_owner=owner[:80],
        lease_expires_at=Now() + timedelta(seconds=lease_s),
        started_at=Now(),
        progress_done=0,
        progress_total=None,
    )
