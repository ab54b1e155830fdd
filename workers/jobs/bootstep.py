"""Ties the runner's life to the control worker's."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

from celery import bootsteps
from django.conf import settings

from workers.jobs.bell import BELL

if TYPE_CHECKING:
    from workers.jobs.runner import Runner


class JobStep(bootsteps.StartStopStep):
    """Started before the consumer and independent of it: jobs run while the broker is away."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        self._runner: Runner | None = None

    def start(self, worker: Any) -> None:
        if not settings.JOBS_AT_ONCE:
            return
        # Both need models, which are there once Celery has set Django up.
        from workers.jobs.kinds import KINDS
        from workers.jobs.runner import Runner

        owner = f"{socket.gethostname()}:{os.getpid()}"
        self._runner = Runner(owner, settings.JOBS_AT_ONCE, KINDS, BELL)
        self._runner.start()

    def stop(self, worker: Any) -> None:
        if self._runner is not None:
            self._runner.stop()
