"""The threads that run jobs: each claims one, does it, and claims the next."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping

from django.db import DatabaseError, connection

from tenants import jobs
from tenants.jobs import HeldJob
from tenants.models import Job
from workers.jobs import metrics
from workers.jobs.bell import Bell
from workers.jobs.keeper import Keeper
from workers.jobs.perform import LONGEST_S, Kind, perform
from workers.jobs.work import Work

log = logging.getLogger(__name__)

# Without a message: the broker may be gone, or the worker deaf to it (celery #8030).
LOOK_EVERY_S = 5.0
AFTER_ERROR_S = 1.0
# Of jobs that are about done when the worker is asked to stop; the others are handed back.
GRACE_S = 5.0


class Runner:
    def __init__(self, owner: str, at_once: int, kinds: Mapping[str, Kind], bell: Bell) -> None:
        self._owner = owner
        self._kinds = kinds
        self._bell = bell
        self._keeper = Keeper()
        self._stopping = threading.Event()
        self._looked_at = 0.0
        # One more for what people wait for: a mail does not stand behind four exports.
        priorities = [Job.Priority.LOW] * at_once + [Job.Priority.URGENT]
        self._threads = [
            threading.Thread(
                target=self._serve, args=(least_urgent,), name=f"job-{number}", daemon=True
            )
            for number, least_urgent in enumerate(priorities)
        ]

    def start(self) -> None:
        self._keeper.start()
        for thread in self._threads:
            thread.start()

    def stop(self, grace_s: float = GRACE_S) -> None:
        """Take no more, let end what ends in time, hand the rest back at once."""
        self._stopping.set()
        self._bell.ring()
        deadline = time.monotonic() + grace_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        for work in self._keeper.works:
            work.lose()
            try:
                jobs.release(work.job)
            except DatabaseError:  # its lease runs out instead
                log.warning("job.not_handed_back", extra={"job": work.job.public_id}, exc_info=True)
        connection.close()
        self._keeper.stop()

    def _serve(self, least_urgent: int) -> None:
        is_rung = True
        while not self._stopping.is_set():
            heard = self._bell.count
            try:
                claimed = self._claim(least_urgent)
                if claimed and not is_rung:
                    self._bell.ring()  # where nobody told of one there may be more
                for job in claimed:
                    self._run(job)
                if not claimed:
                    connection.close()
                    is_rung = self._wait(heard)
            except DatabaseError:
                log.warning("jobs.database_away", exc_info=True)
                self._stopping.wait(AFTER_ERROR_S)
            except Exception:
                # The edge of this thread, which must not die of one job.
                log.exception("jobs.runner_broken")
                self._stopping.wait(AFTER_ERROR_S)
            finally:
                connection.close()

    def _claim(self, least_urgent: int) -> list[HeldJob]:
        if least_urgent == Job.Priority.LOW:  # such a look sees all that there is
            self._looked_at = time.monotonic()
        return jobs.claim(self._owner, least_urgent=least_urgent)

    def _wait(self, heard: int) -> bool:
        """Until it rings (True), or it is time to look and none of the others did."""
        while not self._bell.wait(heard, LOOK_EVERY_S):
            if time.monotonic() - self._looked_at >= LOOK_EVERY_S:
                return False
        return True

    def _run(self, job: HeldJob) -> None:
        kind = self._kinds.get(job.kind)
        work = Work(job, self._stopping, kind.longest_s if kind else LONGEST_S)
        self._keeper.add(work)
        try:
            with metrics.SECONDS.labels(job.kind).time():
                outcome = perform(work, kind)
        finally:
            self._keeper.remove(work)
        metrics.ATTEMPTS.labels(job.kind, outcome).inc()
