"""A worker at hand: what is enqueued is done in the test's own thread and transaction."""

from __future__ import annotations

import threading

from tenants import jobs, scope
from workers.jobs.kinds import KINDS
from workers.jobs.perform import LONGEST_S, perform
from workers.jobs.work import Work


def run_due_jobs() -> list[str]:
    """Claim and do whatever is due, as a worker would; returns what became of each."""
    outcomes = []
    with scope.for_staff():
        while claimed := jobs.claim("test", 10):
            outcomes += [
                perform(Work(job, threading.Event(), LONGEST_S), KINDS.get(job.kind))
                for job in claimed
            ]
    return outcomes
