"""The one task of an engine worker: take a batch, hand it over, return."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import msgspec
from celery import shared_task

from inference import wire
from workers.engine import bootstep, metrics

log = logging.getLogger(__name__)


@shared_task(
    name=wire.GENERATE_TASK, ignore_result=True, Strategy="workers.engine.tasks:straight_to_host"
)
def generate(payload: bytes) -> None:
    """``payload`` is a MessagePack list of ``wire.Submission``."""
    submissions = wire.decode_submissions(payload)
    metrics.BATCHES.inc()
    metrics.BATCHED.inc(len(submissions))
    bootstep.host().accept(submissions)


def straight_to_host(task: Any, app: Any, consumer: Any) -> Callable[..., None]:
    """Celery's extension point for what a worker does with a message of this task.

    The default builds a request object and runs the task through the pool's
    tracing, for time limits, retries and results that a batch has no use for: it
    is handed over in microseconds, and the dispatcher that sent it supervises it.
    The queue is consumed without acknowledgements (``config.celery``).
    """

    def handle(message: Any, *_: Any) -> None:
        try:
            (payload,), _kwargs, _embedded = message.decode()
            generate(payload)
        except (ValueError, TypeError, msgspec.MsgspecError):
            # Not from a dispatcher of ours; nobody waits for an answer to it.
            log.exception("generate.undecodable")

    return handle
