"""Durable jobs: rows in PostgreSQL are the truth, Celery messages only wake workers.

``enqueue`` in the transaction of what the job is about; a worker claims, renews, reports
progress and ends a job, each by a change that only the holder of the newest fencing token
can make (docs/adr/0018-durable-jobs.md). What a kind of job does is in ``workers.jobs.kinds``.
"""

from tenants.jobs.again import Postponed, TryAgain
from tenants.jobs.changes import cancel_job, retry_job
from tenants.jobs.claim import claim
from tenants.jobs.enqueue import enqueue, unseal
from tenants.jobs.held import HeldJob, LeaseLost
from tenants.jobs.lease import LEASE_S, release, renew
from tenants.jobs.measures import Endings, Measures, count_endings, measure
from tenants.jobs.outcome import complete, effect, fail, report_progress
from tenants.jobs.sweep import Swept, purge_jobs, requeue_expired, sweep
from tenants.jobs.wake import wake_workers

__all__ = [
    "LEASE_S",
    "Endings",
    "HeldJob",
    "LeaseLost",
    "Measures",
    "Postponed",
    "Swept",
    "TryAgain",
    "cancel_job",
    "claim",
    "complete",
    "count_endings",
    "effect",
    "enqueue",
    "fail",
    "measure",
    "purge_jobs",
    "release",
    "renew",
    "report_progress",
    "requeue_expired",
    "retry_job",
    "sweep",
    "unseal",
    "wake_workers",
]
