"""What the holder of a job says of it. Each changes the row only if it still holds it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models.functions import Now

from tenants import audit, locks
from tenants.jobs.backoff import wait_after
from tenants.jobs.held import HeldJob, LeaseLost
from tenants.jobs.idle import bounded_idle
from tenants.jobs.lease import LEASE_S, mine
from tenants.models import Job

MOST_RESULT_BYTES = 4096
MOST_ERROR_CHARACTERS = 2000


@dataclass
class Ending:
    """``result`` may be filled until the block of ``effect`` ends; shown to whoever may see
    the job, so it holds no secret."""

    result: dict[str, Any] = field(default_factory=dict)


def report_progress(job: HeldJob, done: int, total: int | None = None) -> None:
    """How much is done; raises LeaseLost."""
    _change(job, progress_done=done, progress_total=total)


@contextmanager
def effect(job: HeldJob) -> Iterator[Ending]:
    """The job's effect on the database and its end, in one transaction: both or neither.

    Holds the row from here on, so that nobody takes or cancels the job meanwhile; raises
    LeaseLost, before anything was done, where that has happened. Database work only: a
    worker that does nothing for a whole lease loses the transaction.
    """
    with transaction.atomic(), bounded_idle(LEASE_S):
        if locks.lock_held_job(job.pk, job.token) is None:
            raise LeaseLost(job.public_id)
        ending = Ending()
        yield ending
        complete(job, ending.result)


def complete(job: HeldJob, result: Mapping[str, Any] | None = None) -> None:
    """Done; raises LeaseLost. Twice, as after ``effect``, is LeaseLost too."""
    given = dict(result or {})
    if len(audit.canonical(given).encode()) > MOST_RESULT_BYTES:
        raise ValueError(f"The result of a job has at most {MOST_RESULT_BYTES} bytes.")
    _change(job, **ENDED, state=Job.State.SUCCEEDED, result=given, error="", sealed=None)


def fail(
    job: HeldJob, error: str, *, is_retryable: bool = True, after: timedelta | None = None
) -> str:
    """Let it be tried again after a pause, or never; returns its state. Raises LeaseLost."""
    told = error[:MOST_ERROR_CHARACTERS]
    if is_retryable and not job.is_last_attempt:
        _change(
            job,
            state=Job.State.QUEUED,
            lease_owner="",
            lease_expires_at=None,
            run_after=Now() + (wait_after(job.attempt) if after is None else after),
            error=told,
        )
        return Job.State.QUEUED
    _change(job, **ENDED, state=Job.State.FAILED, error=told)
    return Job.State.FAILED


# The owner stays, to tell who ran it last.
ENDED: dict[str, Any] = {"lease_expires_at": None, "finished_at": Now()}


def _change(job: HeldJob, **values: Any) -> None:
    if not Job.objects.filter(**mine(job)).update(**values):
        raise LeaseLost(job.public_id)
