"""Tell the workers that there is work: a message that may be lost or repeated."""

from __future__ import annotations

import logging

from celery import current_app
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

RUN_TASK = "jobs.run"
QUEUE = "control"
# The sweeper tells them again every few seconds.
EXPIRES_S = 30
log = logging.getLogger(__name__)


def wake_workers(times: int = 1) -> None:
    """Once for each worker that shall look; a broker that is away is only logged."""
    if not current_app.conf.broker_url:  # a command, which did not configure Celery
        return
    try:
        for _ in range(times):
            current_app.send_task(
                RUN_TASK, queue=QUEUE, expires=EXPIRES_S, ignore_result=True, retry=False
            )
    except (OperationalError, RedisError, OSError) as error:
        log.warning("jobs.wake_failed", extra={"error": repr(error)})
