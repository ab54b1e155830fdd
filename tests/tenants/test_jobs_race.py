"""Two at once, on connections of their own: claims, a late worker, a cancellation."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.test import override_settings
from django.utils import timezone

from tenants import jobs
from tenants.errors import AlreadyDone
from tenants.jobs import HeldJob, LeaseLost
from tenants.models import Job, Organization
from tests.cast import default_plan

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def organization() -> Organization:
    return Organization.objects.create(name="Acme", plan=default_plan())


def enqueue(count: int, organization: Organization | None = None) -> list[Job]:
    return [jobs.enqueue("test", str(n), organization=organization) for n in range(count)]


def on_own_connection(action: Callable[[], object]) -> Callable[[], object]:
    def run() -> object:
        try:
            return action()
        finally:
            connection.close()

    return run


def at_once(*actions: Callable[[], object]) -> list[object]:
    with ThreadPoolExecutor(len(actions)) as pool:
        return [
            future.result(30) for future in [pool.submit(on_own_connection(a)) for a in actions]
        ]


def test_no_job_is_claimed_twice_and_no_bound_is_passed(organization: Organization) -> None:
    enqueue(6)
    for number in range(40):
        jobs.enqueue("bounded", str(number), organization=organization)
    most_running = [0]

    def work(owner: str) -> list[int]:
        done = []
        while held := jobs.claim(owner):
            running = Job.objects.filter(organization=organization, state="running").count()
            most_running[0] = max(most_running[0], running)
            time.sleep(0.01)
            jobs.complete(held[0])
            done.append(held[0].pk)
        return done

    with override_settings(JOBS_PER_ORGANIZATION=2):
        done = at_once(*[lambda owner=str(n): work(owner) for n in range(6)])
    counted = Counter(pk for part in done for pk in part)  # type: ignore[attr-defined]
    # Whoever found the bound reached went home; what it left is still there to be done.
    while held := jobs.claim("last"):
        jobs.complete(held[0])
        counted[held[0].pk] += 1
    assert set(counted.values()) == {1} and len(counted) == 46
    assert most_running[0] == 2


def claim_one() -> HeldJob:
    (held,) = jobs.claim("a")
    return held


def test_enqueued_by_two_at_once_is_one(organization: Organization) -> None:
    found = at_once(*[lambda: jobs.enqueue("test", "1", organization=organization).pk] * 6)
    assert len(set(found)) == 1 and Job.objects.count() == 1


def test_a_late_worker_commits_nothing_beside_the_new_one(organization: Organization) -> None:
    enqueue(1)
    late = claim_one()
    Job.objects.update(lease_expires_at=timezone.now() - timedelta(seconds=1))
    jobs.sweep()
    new = claim_one()

    def finish(held: HeldJob, name: str) -> bool:
        try:
            with jobs.effect(held):
                Organization.objects.filter(pk=organization.pk).update(name=name)
                time.sleep(0.05)
        except LeaseLost:
            return False
        return True

    assert at_once(lambda: finish(late, "late"), lambda: finish(new, "new")) == [False, True]
    assert Organization.objects.get(pk=organization.pk).name == "new"


def test_without_the_guard_the_late_worker_would_have_written(organization: Organization) -> None:
    """A control: the same two, with an end that does not ask for the token."""
    enqueue(1)
    late = claim_one()
    Job.objects.update(lease_expires_at=timezone.now() - timedelta(seconds=1))
    jobs.sweep()
    claim_one()
    with transaction.atomic():
        Organization.objects.filter(pk=organization.pk).update(name="late")
        Job.objects.filter(pk=late.pk).update(
            state="succeeded", lease_expires_at=None, finished_at=timezone.now()
        )
    assert Organization.objects.get(pk=organization.pk).name == "late"


def test_while_an_effect_commits_nobody_waits_for_it(organization: Organization) -> None:
    """Cancelling is refused, renewing and sweeping pass the row over, claiming goes on."""
    job, other = enqueue(2)
    held, beside = claim_one(), claim_one()
    assert (held.pk, beside.pk) == (job.pk, other.pk)
    inside, done = threading.Event(), threading.Event()

    def finish() -> None:
        with jobs.effect(held):
            inside.set()
            assert done.wait(10)

    with ThreadPoolExecutor(1) as pool:
        ending = pool.submit(on_own_connection(finish))
        assert inside.wait(10)
        began = time.monotonic()
        Job.objects.filter(pk=beside.pk).update(lease_expires_at=timezone.now())
        with pytest.raises(AlreadyDone, match="ending right now"):
            jobs.cancel_job(job, acting_user=None)
        assert jobs.renew([held, beside]) == set()
        assert not jobs.sweep().requeued
        assert jobs.claim("b") == []
        assert time.monotonic() - began < 3
        done.set()
        ending.result(10)
    job.refresh_from_db()
    assert job.state == "succeeded"
    assert Job.objects.get(pk=beside.pk).lease_expires_at > timezone.now()


def test_a_cancelled_worker_rolls_its_effect_back(organization: Organization) -> None:
    (job,) = enqueue(1)
    held = claim_one()
    at_once(lambda: jobs.cancel_job(job, acting_user=None))
    with pytest.raises(LeaseLost), jobs.effect(held):
        Organization.objects.filter(pk=organization.pk).update(name="too late")
    job.refresh_from_db()
    assert (job.state, Organization.objects.get(pk=organization.pk).name) == ("cancelled", "Acme")


def test_whoever_freezes_while_claiming_holds_nobody_up() -> None:
    """PostgreSQL ends the frozen session, and the next one claims."""
    from tenants.jobs.claim import _line
    from tenants.jobs.idle import bounded_idle

    enqueue(1)
    frozen, thawed = threading.Event(), threading.Event()

    @transaction.atomic
    def freeze() -> None:
        with bounded_idle(0.5):
            _line(1, 9)
            frozen.set()
            thawed.wait(10)

    def attempt() -> str:
        try:
            freeze()
        except Exception as error:
            return repr(error)
        return "claimed"

    with ThreadPoolExecutor(1) as pool:
        stuck = pool.submit(on_own_connection(attempt))
        assert frozen.wait(10), stuck.result(1)
        began = time.monotonic()
        assert len(jobs.claim("b")) == 1
        assert time.monotonic() - began < 5
        thawed.set()
        assert stuck.result(10) != "claimed"


@pytest.mark.django_db(transaction=True)
def test_locks_are_bounded_until_the_commit_and_nothing_is_after_it() -> None:
    """A process that freezes between its last statement and its commit holds locks too."""
    from django.db import connection, transaction

    from tenants.jobs.idle import bounded_idle

    def bound() -> str:
        with connection.cursor() as cursor:
            cursor.execute("SHOW idle_in_transaction_session_timeout")
            return str(cursor.fetchone()[0])

    usual = bound()
    with transaction.atomic():
        with bounded_idle(7):
            pass
        assert bound() == "7s"
    assert bound() == usual
    with transaction.atomic():
        with transaction.atomic(), bounded_idle(7):
            assert bound() == "7s"
        assert bound() == usual
