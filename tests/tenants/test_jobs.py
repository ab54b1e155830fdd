"""What one row goes through: each change by whoever holds the newest token, and no other."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import IntegrityError, connection, transaction
from django.test import override_settings
from django.utils import timezone

from tenants import jobs, scope
from tenants.errors import AlreadyDone
from tenants.jobs import HeldJob, LeaseLost
from tenants.jobs.backoff import LONGEST_S, wait_after
from tenants.jobs.enqueue import MOST_PAYLOAD_BYTES
from tenants.jobs.outcome import MOST_ERROR_CHARACTERS, MOST_RESULT_BYTES
from tenants.managers import MissingScope
from tenants.models import AuditEvent, Job, Organization
from tests.cast import Cast, default_plan

State = Job.State


def enqueue(key: str = "1", organization: Organization | None = None, **fields: object) -> Job:
    return jobs.enqueue("test", key, organization=organization, **fields)


def claim_one(owner: str = "a") -> HeldJob:
    (held,) = jobs.claim(owner)
    return held


def let_expire(*rows: Job | HeldJob) -> None:
    Job.objects.filter(pk__in=[row.pk for row in rows]).update(
        lease_expires_at=timezone.now() - timedelta(seconds=1)
    )


def stored(row: Job | HeldJob) -> dict[str, object]:
    return Job.objects.filter(pk=row.pk).values().get()


# --- Once ---------------------------------------------------------------------------------


def test_enqueued_twice_is_once(cast: Cast) -> None:
    first = enqueue("1", cast.organization, payload={"a": 1})
    assert enqueue("1", cast.organization, payload={"a": 2}).pk == first.pk
    assert jobs.enqueue("other", "1", organization=None).pk != first.pk
    assert stored(first)["payload"] == {"a": 1}


def test_what_is_rolled_back_was_not_enqueued(db: None) -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        enqueue()
        raise ZeroDivisionError
    assert not Job.objects.exists()


def test_a_finished_job_is_not_done_again(db: None) -> None:
    enqueue()
    jobs.complete(claim_one(), {"done": True})
    assert enqueue().state == State.SUCCEEDED
    assert jobs.claim("b") == []


def test_payload_result_and_error_are_bounded(db: None) -> None:
    with pytest.raises(ValueError, match="payload"):
        enqueue(payload={"text": "x" * MOST_PAYLOAD_BYTES})
    enqueue()
    held = claim_one()
    with pytest.raises(ValueError, match="result"):
        jobs.complete(held, {"text": "x" * MOST_RESULT_BYTES})
    jobs.fail(held, "e" * 10_000, is_retryable=False)
    assert len(str(stored(held)["error"])) == MOST_ERROR_CHARACTERS


def test_a_secret_is_encrypted_and_erased_at_the_end(db: None) -> None:
    job = enqueue(secret="the token")
    sealed = bytes(Job.objects.get(pk=job.pk).sealed)
    assert b"token" not in sealed
    held = claim_one()
    assert jobs.unseal(held) == "the token"
    jobs.complete(held)
    assert Job.objects.get(pk=job.pk).sealed is None


# --- Who is next ----------------------------------------------------------------------------


def test_urgent_first_then_fair_then_oldest(cast: Cast) -> None:
    for number in range(6):
        enqueue(f"flood-{number}", cast.organization)
    enqueue("light", cast.other_organization)
    enqueue("low", cast.other_organization, priority=Job.Priority.LOW)
    enqueue("urgent", cast.organization, priority=Job.Priority.URGENT)
    enqueue("later", cast.organization, run_after=timezone.now() + timedelta(hours=1))
    with override_settings(JOBS_PER_ORGANIZATION=3):
        order = [str(stored(held)["effect_key"]) for held in jobs.claim("a", 20)]
        assert order == ["urgent", "light", "flood-0", "flood-1", "low"]
        assert jobs.claim("a", 20) == [], "both organizations are at their bound"
        enqueue("platform")
        assert len(jobs.claim("a", 20)) == 1, "which does not hold for the platform's own"


def test_one_at_a_time_is_as_fair(cast: Cast) -> None:
    for number in range(3):
        enqueue(f"flood-{number}", cast.organization)
    enqueue("light", cast.other_organization)
    order = [str(stored(claim_one())["effect_key"]) for _ in range(3)]
    assert order == ["flood-0", "light", "flood-1"]


def test_a_thread_for_urgent_ones_takes_no_other(cast: Cast) -> None:
    enqueue("1", cast.organization)
    assert jobs.claim("a", least_urgent=Job.Priority.URGENT) == []
    enqueue("2", cast.organization, priority=Job.Priority.URGENT)
    assert len(jobs.claim("a", 5, least_urgent=Job.Priority.URGENT)) == 1


def test_a_claim_reads_indexes_beside_a_flood(cast: Cast) -> None:
    """A hundred thousand waiting rows of one tenant are not looked at one by one."""
    from tenants.jobs.claim import _PICK

    Job.objects.bulk_create(
        Job(kind="test", effect_key=str(n), organization=cast.organization) for n in range(3000)
    )
    enqueue("light", cast.other_organization)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE tenants_job")
        cursor.execute(
            f"EXPLAIN (ANALYZE, FORMAT JSON) {_PICK}", {"most": 9, "least_urgent": 9, "each": 2}
        )
        (plan,) = cursor.fetchone()[0]

    def rows_read(node: dict) -> float:
        own = 0.0
        if node.get("Relation Name") == "tenants_job":
            removed = node.get("Rows Removed by Filter", 0)
            own = (node["Actual Rows"] + removed) * node["Actual Loops"]
        return own + sum(rows_read(child) for child in node.get("Plans", ()))

    assert rows_read(plan["Plan"]) < 100


# --- The token ----------------------------------------------------------------------------------


ENDS: dict[str, Callable[[HeldJob], object]] = {
    "complete": lambda held: jobs.complete(held),
    "fail": lambda held: jobs.fail(held, "x"),
    "progress": lambda held: jobs.report_progress(held, 1, 2),
}


@pytest.mark.parametrize("end", ENDS)
def test_whoever_was_fenced_off_changes_nothing(db: None, end: str) -> None:
    enqueue()
    old = claim_one()
    let_expire(old)
    jobs.sweep()
    new = claim_one("b")
    assert new.token > old.token
    before = stored(new)
    with pytest.raises(LeaseLost):
        ENDS[end](old)
    assert not jobs.release(old)
    assert jobs.renew([old]) == {old.pk}
    assert stored(new) == before
    jobs.complete(new)


@pytest.mark.parametrize("end", ENDS)
def test_nobody_ends_a_job_twice(db: None, end: str) -> None:
    enqueue()
    held = claim_one()
    jobs.complete(held)
    before = stored(held)
    with pytest.raises(LeaseLost):
        ENDS[end](held)
    assert stored(held) == before


def test_effect_and_end_are_one(cast: Cast) -> None:
    enqueue()
    held = claim_one()
    with pytest.raises(ZeroDivisionError), jobs.effect(held):
        Organization.objects.filter(pk=cast.organization.pk).update(name="half")
        raise ZeroDivisionError
    assert Organization.objects.get(pk=cast.organization.pk).name == "Acme"
    assert stored(held)["state"] == State.RUNNING
    with jobs.effect(held) as ending:
        Organization.objects.filter(pk=cast.organization.pk).update(name="whole")
        ending.result["rows"] = 1
    assert Organization.objects.get(pk=cast.organization.pk).name == "whole"
    assert (stored(held)["state"], stored(held)["result"]) == (State.SUCCEEDED, {"rows": 1})
    with pytest.raises(LeaseLost), jobs.effect(held):
        pytest.fail("the block of a lost job must not run")


def test_progress_is_seen(db: None) -> None:
    enqueue()
    jobs.report_progress(claim_one(), 1, 3)
    assert Job.objects.get().progress_percent == 33


def test_a_renewed_lease_is_not_swept(db: None) -> None:
    enqueue()
    held = claim_one()
    let_expire(held)
    assert jobs.renew([held]) == set()
    assert not jobs.sweep().requeued
    jobs.complete(held)


# --- Again ------------------------------------------------------------------------------------


def test_a_failed_attempt_waits_longer_each_time_and_ends(db: None) -> None:
    enqueue(max_attempts=3)
    for attempt in (1, 2):
        held = claim_one()
        assert held.attempt == attempt
        assert jobs.fail(held, "down") == State.QUEUED
        assert jobs.claim("a") == [], "not at once"
        Job.objects.update(run_after=timezone.now() - timedelta(seconds=1))
    held = claim_one()
    assert held.is_last_attempt and jobs.fail(held, "down") == State.FAILED
    assert jobs.claim("a") == []


def test_the_pause_doubles_and_is_capped() -> None:
    pauses = [wait_after(attempt, chance=1.0).total_seconds() for attempt in range(1, 30)]
    assert pauses[:4] == [2, 4, 8, 16] and pauses[-1] == LONGEST_S
    assert wait_after(3, chance=0.0).total_seconds() == 4
    assert {wait_after(3) for _ in range(20)} != {wait_after(3)}


def test_a_job_that_kills_its_workers_is_given_up(db: None) -> None:
    enqueue(max_attempts=2)
    for expected in ("requeued", "given_up"):
        let_expire(claim_one())
        assert getattr(jobs.sweep(), expected)["test"] == 1
    job = Job.objects.get()
    assert (job.state, job.attempts) == (State.FAILED, 2)
    assert "died" in job.error


def test_a_worker_that_stops_uses_up_no_attempt(db: None) -> None:
    enqueue(max_attempts=1)
    for _ in range(5):
        assert jobs.release(claim_one())
    jobs.complete(claim_one())


def test_cancelled_while_it_waits_and_while_it_runs(cast: Cast) -> None:
    waiting, running = enqueue("1", cast.organization), enqueue("2", cast.organization)
    jobs.cancel_job(waiting, acting_user=cast.owner)
    held = claim_one()
    assert held.pk == running.pk
    jobs.cancel_job(running, acting_user=cast.owner)
    assert jobs.renew([held]) == {held.pk}
    with pytest.raises(LeaseLost):
        jobs.complete(held)
    with pytest.raises(AlreadyDone):
        jobs.cancel_job(running, acting_user=cast.owner)
    assert jobs.claim("b") == []
    events = AuditEvent.objects.filter(action="job.cancelled", acting_user=cast.owner)
    assert set(events.values_list("object_id", flat=True)) == {waiting.public_id, running.public_id}


def test_only_what_failed_is_tried_again(cast: Cast) -> None:
    job = enqueue("1", cast.organization, max_attempts=1, secret="s")
    with pytest.raises(AlreadyDone):
        jobs.retry_job(job, acting_user=cast.staff)
    jobs.fail(claim_one(), "down")
    jobs.retry_job(job, acting_user=cast.staff)
    held = claim_one()
    assert held.attempt == 1 and jobs.unseal(held) == "s"
    jobs.complete(held)
    with pytest.raises(AlreadyDone):
        jobs.retry_job(job, acting_user=cast.staff)


def test_old_ones_are_forgotten(db: None) -> None:
    enqueue("old"), enqueue("new"), enqueue("open")
    old = claim_one()
    jobs.complete(old)
    jobs.complete(claim_one())
    Job.objects.filter(pk=old.pk).update(finished_at=timezone.now() - timedelta(days=31))
    assert jobs.purge_jobs() == 1
    assert set(Job.objects.values_list("effect_key", flat=True)) == {"new", "open"}


# --- The database's own word ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"state": State.RUNNING},
        {"state": State.SUCCEEDED},
        {"finished_at": timezone.now()},
        {"lease_expires_at": timezone.now()},
    ],
)
def test_a_row_that_contradicts_itself_is_refused(db: None, wrong: dict[str, object]) -> None:
    job = enqueue()
    with pytest.raises(IntegrityError), transaction.atomic():
        Job.objects.filter(pk=job.pk).update(**wrong)


def test_members_reach_their_own_organizations_jobs_only(cast: Cast) -> None:
    ours, theirs = enqueue("1", cast.organization), enqueue("2", cast.other_organization)
    enqueue("platform")
    with scope.entered(scope.Scope(organization=cast.organization.pk)):
        assert list(Job.objects.values_list("pk", flat=True)) == [ours.pk]
        with connection.cursor() as cursor:
            cursor.execute("SELECT id FROM tenants_job")
            assert cursor.fetchall() == [(ours.pk,)]
        with pytest.raises(AlreadyDone):
            jobs.cancel_job(theirs, acting_user=cast.owner)
    with pytest.raises(MissingScope), scope.entered(scope.Scope()):
        Job.objects.first()
    assert stored(theirs)["state"] == State.QUEUED


def test_measures_tell_what_is_open(cast: Cast) -> None:
    default_plan()
    assert jobs.measure().oldest_waiting_s == 0
    enqueue("1"), enqueue("2")
    Job.objects.update(run_after=timezone.now() - timedelta(minutes=5))
    enqueue("3", run_after=timezone.now() + timedelta(minutes=5))
    claim_one()
    measures = jobs.measure()
    assert measures.counts == {("test", "queued"): 2, ("test", "running"): 1}
    assert 300 <= measures.oldest_waiting_s < 360
