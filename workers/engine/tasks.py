"""The one task of an engine worker: take a batch, hand it over, return."""

from __future__ import annotations

from celery import shared_task

from inference import wire
from workers.engine import bootstep, metrics


@shared_task(name=wire.GENERATE_TASK, ignore_result=True)
def generate(payload: bytes) -> None:
    """``payload`` is a MessagePack list of ``wire.Submission``."""
    submissions = wire.decode_submissions(payload)
    metrics.BATCHES.inc()
    metrics.BATCHED.inc(len(submissions))
    bootstep.host().accept(submissions)
