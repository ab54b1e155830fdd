"""The control worker's tasks exist under the names that beat calls, and fail quietly but loudly."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis

from billing.collector import wait_for_reports
from billing.models import UsageEvent
from billing.usage import FIELD, STREAM, encode_report
from config.celery import app
from tests.billing.factory import Tenant, make_report, make_tenant
from workers.control import tasks
from workers.control.collecting import Collecting


def test_beat_calls_only_tasks_that_exist() -> None:
    app.loader.import_default_modules()
    scheduled = {entry["task"] for entry in app.conf.beat_schedule.values()}
    assert {"billing.record_usage", "billing.reconcile_holds", "fleet.mirror_replicas"} <= scheduled
    assert scheduled <= set(app.tasks)


def test_record_usage_records(tenant: Tenant, stream: Redis) -> None:
    stream.xadd(STREAM, {FIELD: encode_report(make_report(tenant))})
    tasks.record_usage()
    assert UsageEvent.objects.count() == 1
    assert stream.xlen(STREAM) == 0


def test_a_failure_is_logged_with_its_stack_and_counted(
    db: None, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:9/0"
    failures = tasks.FAILURES.labels("billing.record_usage")
    before = failures._value.get()
    with caplog.at_level(logging.ERROR, "workers.control.tasks"):
        tasks.record_usage()
    assert failures._value.get() == before + 1
    (record,) = [r for r in caplog.records if r.name == "workers.control.tasks"]
    assert record.exc_info is not None
    assert "ConnectionError" in str(record.exc_info[0])


@pytest.mark.django_db(transaction=True)
def test_a_report_is_recorded_without_anybody_asking(stream: Redis) -> None:
    """Now and again: the thread waits for the first, and then for the next."""
    tenant = make_tenant()
    collecting = Collecting()
    collecting.start()
    try:
        for count in (1, 2):
            stream.xadd(STREAM, {FIELD: encode_report(make_report(tenant))})
            wait_until(lambda count=count: UsageEvent.objects.count() == count)
        stream.delete(STREAM)  # as a Redis that lost its data
        stream.xadd(STREAM, {FIELD: encode_report(make_report(tenant))})
        wait_until(lambda: UsageEvent.objects.count() == 3)
    finally:
        collecting.stop()
    assert not collecting.is_running
    assert stream.xlen(STREAM) == 0


def test_waiting_for_reports_takes_nothing_and_ends(stream: Redis) -> None:
    assert not wait_for_reports(stream, 0.05)
    stream.xadd(STREAM, {FIELD: b"whatever"})
    assert wait_for_reports(stream, 5)
    assert stream.xlen(STREAM) == 1


def wait_until(is_done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not is_done():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_every_task_has_a_time_limit() -> None:
    for task in (tasks.record_usage, tasks.reconcile_holds, tasks.mirror_replicas):
        assert 0 < task.soft_time_limit < task.time_limit


@pytest.mark.parametrize("task", [tasks.record_usage, tasks.reconcile_holds, tasks.mirror_replicas])
def test_with_nothing_to_do_a_task_does_nothing_and_fails_not(
    db: None, stream: Redis, task: Any
) -> None:
    failures = tasks.FAILURES.labels(task.name)
    before = failures._value.get()
    task()
    assert failures._value.get() == before
