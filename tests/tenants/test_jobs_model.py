"""The state machine against a model of it: whatever happens in whatever order, a job has one
holder at most, and its effect is there exactly if it succeeded."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest
from django.db import transaction
from django.utils import timezone
from hypothesis import HealthCheck, settings, strategies
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from tenants import jobs
from tenants.errors import AlreadyDone
from tenants.jobs import HeldJob, LeaseLost
from tenants.models import Job

pytestmark = pytest.mark.django_db
State = Job.State
MOST_ATTEMPTS = 3


class JobMachine(RuleBasedStateMachine):
    """``states`` is what the rows shall say; ``holder`` the newest token of running ones."""

    held = Bundle("held")

    def __init__(self) -> None:
        super().__init__()
        self.savepoint = transaction.savepoint()
        self.states: dict[int, str] = {}
        self.holder: dict[int, int] = {}
        self.attempts: dict[int, int] = {}
        self.expired: set[int] = set()
        self.effects: dict[int, int] = {}
        self.numbers = iter(range(10**6))

    def teardown(self) -> None:
        transaction.savepoint_rollback(self.savepoint)
        # What was rolled back is not there for the next example either.

    def holds(self, job: HeldJob) -> bool:
        return self.states[job.pk] == State.RUNNING and self.holder[job.pk] == job.token

    def end(self, job: HeldJob, state: str) -> None:
        self.states[job.pk] = state
        self.holder.pop(job.pk, None)
        self.expired.discard(job.pk)

    @rule(key=strategies.integers(0, 5))
    def enqueue(self, key: int) -> None:
        job = jobs.enqueue("model", str(key), organization=None, max_attempts=MOST_ATTEMPTS)
        if job.pk not in self.states:
            self.states[job.pk] = State.QUEUED
            self.attempts[job.pk] = 0
            self.effects[job.pk] = 0

    @rule(target=held)
    def claim(self) -> object:
        Job.objects.filter(state=State.QUEUED).update(run_after=timezone.now())
        claimed = jobs.claim("w")
        waiting = {pk for pk, state in self.states.items() if state == State.QUEUED}
        assert bool(claimed) == bool(waiting)
        if not claimed:
            return None
        (job,) = claimed
        assert job.pk in waiting
        assert job.token > self.holder.get(job.pk, 0)
        self.attempts[job.pk] += 1
        assert job.attempt == self.attempts[job.pk]
        self.states[job.pk], self.holder[job.pk] = State.RUNNING, job.token
        return job

    @rule(job=held)
    def effect(self, job: HeldJob | None) -> None:
        if job is None:
            return
        may = self.holds(job)
        try:
            with jobs.effect(job):
                self.effects[job.pk] += 1
        except LeaseLost:
            assert not may
        else:
            assert may
            self.end(job, State.SUCCEEDED)

    @rule(job=held, is_retryable=strategies.booleans())
    def fail(self, job: HeldJob | None, is_retryable: bool) -> None:
        if job is None:
            return
        may = self.holds(job)
        try:
            state = jobs.fail(job, "x", is_retryable=is_retryable)
        except LeaseLost:
            assert not may
        else:
            assert may
            again = is_retryable and self.attempts[job.pk] < MOST_ATTEMPTS
            assert state == (State.QUEUED if again else State.FAILED)
            self.end(job, state)

    @rule(job=held)
    def release(self, job: HeldJob | None) -> None:
        if job is None:
            return
        may = self.holds(job)
        assert jobs.release(job) == may
        if may:
            self.attempts[job.pk] -= 1
            self.end(job, State.QUEUED)

    @rule(job=held)
    def renew(self, job: HeldJob | None) -> None:
        if job is None:
            return
        may = self.holds(job)
        assert jobs.renew([job]) == (set() if may else {job.pk})
        if may:
            self.expired.discard(job.pk)

    @rule(job=held)
    def expire(self, job: HeldJob | None) -> None:
        if job is not None and self.states[job.pk] == State.RUNNING:
            past = timezone.now() - timedelta(seconds=1)
            Job.objects.filter(pk=job.pk).update(lease_expires_at=past)
            self.expired.add(job.pk)

    @rule()
    def sweep(self) -> None:
        swept = jobs.sweep()
        again = {pk for pk in self.expired if self.attempts[pk] < MOST_ATTEMPTS}
        assert swept.requeued.total() == len(again)
        assert swept.given_up.total() == len(self.expired - again)
        for pk in self.expired:
            self.states[pk] = State.QUEUED if pk in again else State.FAILED
            self.holder.pop(pk, None)
        self.expired.clear()

    @rule(choose=strategies.randoms(use_true_random=False))
    def cancel(self, choose: random.Random) -> None:
        if not self.states:
            return
        job = Job.objects.get(pk=choose.choice(sorted(self.states)))
        try:
            jobs.cancel_job(job, acting_user=None)
        except AlreadyDone:
            assert self.states[job.pk] not in (State.QUEUED, State.RUNNING)
        else:
            assert self.states[job.pk] in (State.QUEUED, State.RUNNING)
            self.states[job.pk] = State.CANCELLED
            self.expired.discard(job.pk)

    @rule(choose=strategies.randoms(use_true_random=False))
    def retry(self, choose: random.Random) -> None:
        if not self.states:
            return
        job = Job.objects.get(pk=choose.choice(sorted(self.states)))
        try:
            jobs.retry_job(job, acting_user=None)
        except AlreadyDone:
            assert self.states[job.pk] != State.FAILED
        else:
            assert self.states[job.pk] == State.FAILED
            self.states[job.pk], self.attempts[job.pk] = State.QUEUED, 0

    @invariant()
    def rows_are_as_the_model(self) -> None:
        assert dict(Job.objects.values_list("pk", "state")) == self.states

    @invariant()
    def effects_are_those_of_what_succeeded(self) -> None:
        for pk, count in self.effects.items():
            assert count == (self.states[pk] == State.SUCCEEDED)


def test_jobs_behave_as_their_model() -> None:
    run_state_machine_as_test(
        JobMachine,
        settings=settings(
            max_examples=40,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
