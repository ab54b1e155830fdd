"""The control worker's periodic tasks.

Each calls one room function and may overlap with itself or be lost: the rows and
the stream are the truth, a message is only a wake-up. Celery's Django fixup
closes stale database connections around each task.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from celery import shared_task
from prometheus_client import Counter

from billing import spend_watch
from billing.collector import collect_usage
from tenants.idempotency import purge_requests

logger = logging.getLogger(__name__)

FAILURES = Counter("sluice_control_task_failures", "Control tasks that raised.", ["task"])


@contextmanager
def logged_edge(task: str) -> Iterator[None]:
    """The outer edge of a task: log what was raised, with its stack; the next tick retries."""
    try:
        yield
    except Exception:
        FAILURES.labels(task).inc()
        logger.exception("control task failed", extra={"task": task})


# The collector bounds itself to about 5 s; the limits are for a store that hangs.
@shared_task(name="billing.record_usage", soft_time_limit=30, time_limit=40)
def record_usage() -> None:
    with logged_edge("billing.record_usage"):
        done = collect_usage()
        if done.reports:
            logger.info(
                "usage recorded",
                extra={
                    "reports": done.reports,
                    "recorded": done.recorded,
                    "undecodable": done.undecodable,
                    "waiting": done.waiting,
                },
            )


@shared_task(name="billing.check_spend", soft_time_limit=50, time_limit=60)
def check_spend() -> None:
    with logged_edge("billing.check_spend"):
        spend_watch.check_spend()


@shared_task(name="billing.reconcile_holds", soft_time_limit=60, time_limit=75)
def reconcile_holds() -> None:
    with logged_edge("billing.reconcile_holds"):
        from inference.holds import reconcile_holds as reconcile

        reconcile()


@shared_task(name="fleet.mirror_replicas", soft_time_limit=20, time_limit=30)
def mirror_replicas() -> None:
    with logged_edge("fleet.mirror_replicas"):
        from inference.fleet import mirror_replicas as mirror

        mirror()


@shared_task(name="tenants.purge_idempotent_requests", soft_time_limit=60, time_limit=75)
def purge_idempotent_requests() -> None:
    with logged_edge("tenants.purge_idempotent_requests"):
        purge_requests()
