"""A control worker with kinds of jobs that tests can count: ``celery -A tests.workers.chaos_app``."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from celery.signals import worker_init
from django.db import connection

from config.celery import app

if TYPE_CHECKING:
    from workers.jobs.work import Work

if timeout := os.environ.get("CHAOS_VISIBILITY_TIMEOUT_S"):
    app.conf.broker_transport_options["visibility_timeout"] = float(timeout)


def note(table: str, work: Work) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} (job, token, pid, at) VALUES (%s, %s, %s, clock_timestamp())",
            [work.job.pk, work.job.token, os.getpid()],
        )


def quick(work: Work) -> None:
    """Some tens of milliseconds, so that kills hit jobs and the ends of jobs."""
    note("chaos_start", work)
    time.sleep(work.job.payload["seconds"])
    with work.effect():
        note("chaos_effect", work)
        time.sleep(work.job.payload["seconds"])


def long(work: Work) -> None:
    note("chaos_start", work)
    for tenth in range(int(work.job.payload["seconds"] * 10)):
        time.sleep(0.1)
        work.progress(tenth, 100)
    with work.effect():
        note("chaos_effect", work)


@worker_init.connect
def _add_kinds(**_: object) -> None:
    from workers.jobs.kinds import KINDS
    from workers.jobs.perform import Kind

    KINDS["chaos.quick"] = Kind(quick)
    KINDS["chaos.long"] = Kind(long)
