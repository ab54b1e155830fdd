"""A thread that carries usage to the ledger as soon as there is any, at most once a second.

It waits in Redis for the first report instead of looking every second: an idle platform
costs nothing, and under load a run takes a second's reports in large batches. Beat's task
``billing.record_usage`` remains for when this thread cannot (``docs/rooms/billing.md``).
"""

from __future__ import annotations

import threading
import time

from django.conf import settings
from django.db import connection
from redis import Redis

from billing.collector import collect_usage, get_redis, wait_for_reports
from workers.control.tasks import logged_edge

# A request is in the ledger, and on the pages that people look at, about this long after it.
EVERY_S = 1.0
# How long one wait for the first report lasts; a worker that is asked to stop waits for it.
WAIT_S = 2.0
AFTER_ERROR_S = 1.0
# Of a run under way when the worker is asked to stop: one batch, bounded by its statement.
STOP_S = 10.0


class Collecting:
    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="usage", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """After the run under way: what it took is recorded, not left for others to claim."""
        self._stopping.set()
        self._thread.join(STOP_S)

    @property
    def is_running(self) -> bool:
        return self._thread.is_alive()

    def _serve(self) -> None:
        redis = get_redis(settings.REDIS_URL, wait_s=WAIT_S)
        while not self._stopping.is_set():
            began = time.monotonic()
            is_done = False
            with logged_edge("billing.record_usage"):
                is_done = self._collect_when_there_is_any(redis)
            self._stopping.wait(EVERY_S - (time.monotonic() - began) if is_done else AFTER_ERROR_S)

    def _collect_when_there_is_any(self, redis: Redis) -> bool:
        if not wait_for_reports(redis, WAIT_S):
            return True
        try:
            collect_usage(redis, stopping=self._stopping)
        finally:
            connection.close()
        return True
