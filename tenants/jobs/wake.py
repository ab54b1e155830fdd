"""Tell the workers that there is work: a message that may be lost or repeated."""

from __future__ import annotations

import logging

from celery import current_app
from kombu import pools
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

RUN_TASK = "jobs.run"
QUEUE = "control"
# The sweeper tells them again every few seconds.
EXPIRES_S = 30
# kombu tries for six seconds by itself, while a person waits for their page.
_IMPATIENT = {"max_retries": 1, "interval_start": 0, "interval_step": 0, "interval_max": 0}
log = logging.getLogger(__name__)


def wake_workers(times: int = 1) -> None:
    """Once for each worker that shall look; a broker that is away is only logged."""
    if not current_app.conf.broker_url:  # a command, which did not configure Celery
        return
    connection = current_app.connection_for_write(transport_options=_IMPATIENT)
    try:
        with pools.producers[connection].acquire(block=True) as producer:
            for _ in range(times):
                current_app.send_task(
                    RUN_TASK,
                    producer=producer,
                    queue=QUEUE,
                    expires=EXPIRES_S,
                    ignore_result=True,
                    retry=False,
                )
    except (OperationalError, RedisError, OSError) as error:
        log.warning("jobs.wake_failed", extra={"error": repr(error)})
