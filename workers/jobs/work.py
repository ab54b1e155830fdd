"""A job as its handler has it: what to do, and whether to go on."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tenants import jobs
from tenants.jobs import LEASE_S, HeldJob, LeaseLost
from tenants.jobs.outcome import Ending

REPORT_EVERY_S = 1.0


class HandBack(Exception):
    """The worker stops: leave the job as it is; another begins it again at once."""


class Work:
    """Handlers call ``check`` or ``progress`` often, and end by ``effect`` or by returning."""

    def __init__(self, job: HeldJob, stopping: threading.Event, longest_s: float) -> None:
        self.job = job
        self.is_ended = False
        self._stopping = stopping
        self._began = self._renewed = time.monotonic()
        self._longest_s = longest_s
        self._reported = 0.0
        self._is_lost = False

    def check(self) -> None:
        """Raise LeaseLost or HandBack if the work shall not go on."""
        # The clock tells it first: a process that was frozen, or cut off from PostgreSQL,
        # has heard nothing while its job went to another.
        is_stale = time.monotonic() - self._renewed > LEASE_S
        if self._is_lost or is_stale or self.is_overdue:
            raise LeaseLost(self.job.public_id)
        if self._stopping.is_set():
            raise HandBack(self.job.public_id)

    def progress(self, done: int, total: int | None = None) -> None:
        """``check``, and tell those who look at the job, once a second."""
        self.check()
        now = time.monotonic()
        if now - self._reported >= REPORT_EVERY_S:
            self._reported = now
            jobs.report_progress(self.job, done, total)

    @contextmanager
    def effect(self) -> Iterator[Ending]:
        """``tenants.jobs.effect``: what is written in the block commits with the job's end."""
        self.check()
        with jobs.effect(self.job) as ending:
            yield ending
        self.is_ended = True

    @property
    def is_overdue(self) -> bool:
        """It hangs: its lease is renewed no more, so that another may try."""
        return time.monotonic() - self._began > self._longest_s

    # --- For the keeper of the leases ------------------------------------------------------

    def renewed(self, at: float) -> None:
        """``at`` is when the renewal was asked for, by the monotonic clock."""
        self._renewed = at

    def lose(self) -> None:
        self._is_lost = True
