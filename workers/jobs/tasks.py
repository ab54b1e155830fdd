"""Wake-ups for durable jobs, and what beat does for them."""

from __future__ import annotations

from celery import shared_task

from tenants import export_files, jobs, key_expiry
from tenants.webhooks.log import purge_log
from workers.control.tasks import logged_edge
from workers.jobs import metrics
from workers.jobs.bell import BELL


@shared_task(name="jobs.run")
def run() -> None:
    """Somebody enqueued something: this process's runner looks at once."""
    BELL.ring()


@shared_task(name="jobs.sweep", soft_time_limit=20, time_limit=30)
def sweep() -> None:
    """For workers that no message reached; each runner's keeper looks for the dead as well."""
    with logged_edge("jobs.sweep"):
        metrics.tell(jobs.sweep())


@shared_task(name="jobs.purge", soft_time_limit=60, time_limit=75)
def purge() -> None:
    with logged_edge("jobs.purge"):
        jobs.purge_jobs()
        export_files.purge_files()
        purge_log()


@shared_task(name="tenants.warn_expiring_keys", soft_time_limit=60, time_limit=75)
def warn_expiring_keys() -> None:
    with logged_edge("tenants.warn_expiring_keys"):
        key_expiry.warn_expiring_keys()
