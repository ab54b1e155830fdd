"""One attempt at a job, and what its end means for the row."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from tenants import jobs, scope
from tenants.errors import TenantError
from tenants.jobs import HeldJob, LeaseLost, Postponed, TryAgain
from tenants.scope import Scope
from workers.jobs.work import HandBack, Work

log = logging.getLogger(__name__)

LONGEST_S = 3600.0


@dataclass(frozen=True)
class Kind:
    """``run`` does the work; what it returns is the job's result, unless ``work.effect``
    ended the job already. An error of a room is final, any other is tried again."""

    run: Callable[[Work], dict[str, Any] | None]
    longest_s: float = LONGEST_S


def perform(work: Work, kind: Kind | None) -> str:
    """What became of the attempt, a word for the metrics."""
    job = work.job
    try:
        with _scope_of(job):
            return _attempt(work, kind)
    except LeaseLost:
        log.warning("job.lost", extra={"job": job.public_id, "kind": job.kind})
        return "lost"
    except HandBack:
        jobs.release(job)
        return "handed_back"


def _attempt(work: Work, kind: Kind | None) -> str:
    job = work.job
    if kind is None:  # a newer version's, while the installation is being updated
        jobs.fail(job, f"This worker knows no kind {job.kind!r}.")
        return "unknown"
    try:
        result = kind.run(work)
        if not work.is_ended:
            jobs.complete(job, result)
    except (LeaseLost, HandBack):
        raise
    except Postponed as later:
        jobs.release(job, until=later.until)
        return "postponed"
    except TryAgain as error:
        state = jobs.fail(job, str(error), after=error.after)
        return "failed" if state == "failed" else "retried"
    except TenantError as error:
        jobs.fail(job, error.message, is_retryable=False)
        return "failed"
    except Exception as error:
        # The outer edge of a job: whatever it was, the row must say so.
        log.exception("job.failed", extra={"job": job.public_id, "kind": job.kind})
        state = jobs.fail(job, f"{type(error).__name__}: {error}")
        return "failed" if state == "failed" else "retried"
    return "succeeded"


def _scope_of(job: HeldJob) -> AbstractContextManager[None]:
    """An organization's job is held to its rows by PostgreSQL, as a request of it would be."""
    if job.organization is None:
        return nullcontext()
    return scope.entered(Scope(organization=job.organization))
