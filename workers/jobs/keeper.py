"""Renews the leases of all that runs in this process every few seconds, and looks whose ran out."""

from __future__ import annotations

import logging
import threading
import time

from django.db import DatabaseError, connection

from tenants import jobs
from tenants.jobs import LEASE_S
from workers.jobs import metrics
from workers.jobs.work import Work

log = logging.getLogger(__name__)

RENEW_EVERY_S = LEASE_S / 3


class Keeper:
    def __init__(self) -> None:
        self._works: dict[int, Work] = {}
        self._changing = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="job-leases", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join(RENEW_EVERY_S)

    def add(self, work: Work) -> None:
        with self._changing:
            self._works[work.job.pk] = work

    def remove(self, work: Work) -> None:
        with self._changing:
            self._works.pop(work.job.pk, None)

    @property
    def works(self) -> list[Work]:
        with self._changing:
            return list(self._works.values())

    def _keep(self) -> None:
        while not self._ended.wait(RENEW_EVERY_S):
            try:
                self._renew()
                # Beat's sweep comes by the broker, which may be away while a worker dies.
                metrics.tell(jobs.requeue_expired())
                metrics.show(jobs.measure())
            except DatabaseError:
                # The leases may run out meanwhile; each work sees that by its own clock.
                log.warning("jobs.not_renewed", exc_info=True)
            except Exception:
                # The edge of this thread: without it every lease would run out.
                log.exception("jobs.keeper_broken")
            finally:
                connection.close()

    def _renew(self) -> None:
        asked_at = time.monotonic()
        works = {work.job.pk: work for work in self.works if not work.is_overdue}
        lost = jobs.renew(work.job for work in works.values()) if works else set()
        for pk, work in works.items():
            if pk in lost:
                work.lose()
            else:
                work.renewed(asked_at)
