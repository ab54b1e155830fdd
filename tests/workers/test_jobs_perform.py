"""One attempt: what a handler's end means for the row, and how it learns to stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from prometheus_client import REGISTRY

from tenants import jobs, scope
from tenants.errors import NotFound
from tenants.jobs import LEASE_S, HeldJob
from tenants.models import Job, Project
from tests.cast import Cast
from tests.harness.platform import wait_for
from workers.jobs import metrics
from workers.jobs.bell import Bell
from workers.jobs.kinds import KINDS
from workers.jobs.perform import Kind, perform
from workers.jobs.runner import Runner
from workers.jobs.work import Work


def held(cast: Cast, **fields: Any) -> HeldJob:
    jobs.enqueue("test", "1", organization=cast.organization, **fields)
    (job,) = jobs.claim("w")
    return job


def work_on(job: HeldJob, longest_s: float = 60) -> Work:
    return Work(job, threading.Event(), longest_s)


def attempt(job: HeldJob, run: Callable[[Work], Any]) -> str:
    return perform(work_on(job), Kind(run))


def state_of(job: HeldJob) -> str:
    return Job.objects.get(pk=job.pk).state


def test_what_is_returned_is_the_result(cast: Cast) -> None:
    job = held(cast)
    assert attempt(job, lambda work: {"rows": 3}) == "succeeded"
    assert Job.objects.get(pk=job.pk).result == {"rows": 3}


def test_an_organizations_job_sees_its_rows_only(cast: Cast) -> None:
    seen: list[Any] = []

    def look(work: Work) -> None:
        seen.extend(Project.objects.values_list("organization", flat=True))
        with connection.cursor() as cursor:
            cursor.execute("SELECT DISTINCT organization_id FROM tenants_project")
            seen.extend(pk for (pk,) in cursor.fetchall())

    job = held(cast)
    with scope.for_staff():
        assert attempt(job, look) == "succeeded"
    assert set(seen) == {cast.organization.pk}


@pytest.mark.parametrize(
    ("error", "outcome", "state"),
    [
        (OSError("down"), "retried", "queued"),
        (NotFound("No such thing."), "failed", "failed"),
    ],
)
def test_errors(cast: Cast, error: Exception, outcome: str, state: str) -> None:
    def run(work: Work) -> None:
        raise error

    job = held(cast)
    assert attempt(job, run) == outcome
    assert state_of(job) == state
    assert str(error) in Job.objects.get(pk=job.pk).error


def test_the_last_attempt_fails(cast: Cast) -> None:
    def run(work: Work) -> None:
        raise OSError("down")

    job = held(cast, max_attempts=1)
    assert attempt(job, run) == "failed"


def test_a_kind_that_is_not_known_yet_is_left_for_who_knows_it(cast: Cast) -> None:
    job = held(cast)
    assert perform(work_on(job), None) == "unknown"
    assert state_of(job) == "queued"


def test_a_handler_learns_that_it_was_cancelled(cast: Cast) -> None:
    job = held(cast)

    def run(work: Work) -> None:
        jobs.cancel_job(Job.objects.get(pk=job.pk), acting_user=cast.owner)
        work.progress(1, 2)

    assert attempt(job, run) == "lost"
    assert state_of(job) == "cancelled"


def test_a_handler_learns_that_its_worker_stops(cast: Cast) -> None:
    job = held(cast)
    stopping = threading.Event()

    def run(work: Work) -> None:
        stopping.set()
        work.check()

    assert perform(Work(job, stopping, 60), Kind(run)) == "handed_back"
    assert (state_of(job), Job.objects.get(pk=job.pk).attempts) == ("queued", 0)


def test_a_handler_that_was_frozen_stops_by_its_own_clock(cast: Cast) -> None:
    job = held(cast)
    work = work_on(job)
    work.renewed(time.monotonic() - LEASE_S - 0.1)
    assert perform(work, Kind(lambda work: work.check())) == "lost"
    assert state_of(job) == "running", "until the sweeper comes"


def test_a_handler_that_hangs_is_given_up(cast: Cast) -> None:
    work = work_on(held(cast), longest_s=0)
    assert work.is_overdue
    assert perform(work, Kind(lambda work: work.check())) == "lost"


def test_progress_is_written_once_a_second(cast: Cast) -> None:
    job = held(cast)
    work = work_on(job)
    work.progress(1, 10)
    work.progress(5, 10)
    assert Job.objects.get(pk=job.pk).progress_done == 1


def test_every_kind_that_rooms_enqueue_has_a_handler() -> None:
    import re

    from tests.harness.services import CHECKOUT

    text = "".join(
        path.read_text()
        for room in ("tenants", "billing", "inference")
        for path in (CHECKOUT / room).rglob("*.py")
    )
    named = set(
        re.findall(
            r'^(?:[A-Z_]+_MAIL|[A-Z_]+_EXPORT|BATCH_[A-Z]+|DELIVERY) = "(\w+\.\w+)"',
            text,
            re.MULTILINE,
        )
    )
    assert named == set(KINDS)


# --- The runner ---------------------------------------------------------------------------------


@pytest.fixture
def due(transactional_db: None) -> None:
    for number in range(20):
        jobs.enqueue("test", str(number), organization=None)


def run_until(runner: Runner, is_done: Callable[[], bool]) -> None:
    runner.start()
    try:
        wait_for(is_done, 20)
    finally:
        runner.stop()


def succeeded() -> int:
    return Job.objects.filter(state="succeeded").count()


def test_a_runner_does_what_is_due_and_counts_it(due: None) -> None:
    def counted() -> float:
        labels = {"kind": "test", "outcome": "succeeded"}
        return REGISTRY.get_sample_value("sluice_jobs_attempts_total", labels) or 0.0

    before = counted()
    runner = Runner("w", 3, {"test": Kind(lambda work: None)}, Bell())
    run_until(runner, lambda: succeeded() == 20)
    assert counted() - before == 20


def test_the_bell_wakes_it_at_once(transactional_db: None) -> None:
    bell = Bell()
    runner = Runner("w", 1, {"test": Kind(lambda work: None)}, bell)

    def ring_and_look() -> bool:
        jobs.enqueue("test", "1", organization=None)
        began = time.monotonic()
        bell.ring()
        wait_for(succeeded, 4, every_s=0.01)
        return time.monotonic() - began < 3

    runner.start()
    try:
        time.sleep(0.3)  # all threads have looked and wait; a look of their own is 5 s away
        assert ring_and_look()
    finally:
        runner.stop()


def test_a_runner_that_stops_hands_back_what_does_not_end(due: None) -> None:
    begun, ended = threading.Event(), threading.Event()

    def hang(work: Work) -> None:
        begun.set()
        ended.wait(20)

    runner = Runner("w", 1, {"test": Kind(hang)}, Bell())
    runner.start()
    assert begun.wait(10)
    began = time.monotonic()
    runner.stop(grace_s=0.2)
    assert time.monotonic() - began < 10
    assert set(Job.objects.values_list("state", "attempts")) == {("queued", 0)}
    ended.set()  # the late end of the handler changes nothing
    wait_for(lambda: not [t for t in threading.enumerate() if t.name.startswith("job-")], 10)
    assert set(Job.objects.values_list("state", flat=True)) == {"queued"}


def test_gauges_forget_what_is_gone(db: None) -> None:
    jobs.enqueue("test", "1", organization=None)
    metrics.show(jobs.measure())
    labels = {"kind": "test", "state": "queued"}
    assert REGISTRY.get_sample_value("sluice_jobs", labels) == 1
    jobs.claim("w")
    metrics.show(jobs.measure())
    assert REGISTRY.get_sample_value("sluice_jobs", labels) is None


def test_a_broker_that_is_away_keeps_nobody_waiting(
    transactional_db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kombu would try for six seconds; the job is found by whoever looks."""
    from config.celery import app

    app.set_current()
    monkeypatch.setattr(app.conf, "broker_write_url", "redis://127.0.0.1:1/0")
    began = time.monotonic()
    jobs.enqueue("test", "1", organization=None)
    assert time.monotonic() - began < 2
    assert len(jobs.claim("w")) == 1
