"""A delivery's attempts: when the next one is due, what each means for its endpoint.

An endpoint that fails is paused, longer each time. When the pause is over one delivery
tries; the others wait for what becomes of it. So a dead endpoint costs a worker one
attempt a pause, however much waits for it, and no other endpoint waits behind it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from tenants.jobs import HeldJob, Postponed, TryAgain
from tenants.jobs.backoff import Backoff
from tenants.models import WebhookAttempt, WebhookDelivery, WebhookEndpoint
from tenants.webhooks import notices
from tenants.webhooks.endpoint_secrets import live_secrets
from tenants.webhooks.sending import Outcome, send_event

# 5 s, 20 s, 80 s … 12 h: with outbox.ATTEMPTS of them 28 to 56 hours.
BACKOFF = Backoff(first_s=5.0, factor=4.0, longest_s=12 * 3600.0)
# What waited behind a paused endpoint for this long is not sent any more.
GIVE_UP_AFTER = timedelta(hours=72)
# Of an endpoint as a whole; its deliveries' own pauses are longer.
PAUSE = Backoff(first_s=5.0, factor=2.0, longest_s=600.0)
# Longer than an attempt: while one tries, the others look again after this.
_TRY_S = 20.0
DISABLE_AFTER = timedelta(days=5)

State = WebhookDelivery.State
_ANSWERS_GONE = 410


def deliver(job: HeldJob, effect: Callable[[], AbstractContextManager[Any]]) -> None:
    """One attempt. Raises Postponed while the endpoint is paused, TryAgain if it failed."""
    found = WebhookDelivery.objects.select_related("endpoint", "event")
    delivery = found.filter(pk=job.payload["delivery"], state=State.WAITING).first()
    if delivery is None:
        return
    endpoint, now = delivery.endpoint, timezone.now()
    if not endpoint.is_enabled or now - delivery.created_at > GIVE_UP_AFTER:
        state = State.FAILED if endpoint.is_enabled else State.DROPPED
        with effect():
            _end(delivery, state)
        return
    _take_turn(endpoint, now)
    secrets = live_secrets(endpoint, now)
    outcome = send_event(endpoint.url, secrets, delivery.event, now.timestamp())
    if outcome.is_success:
        with effect():
            _note(delivery, job, outcome)
            _end(delivery, State.DELIVERED)
            _well(endpoint)
        return
    after = BACKOFF.wait_after(job.attempt)
    _failed(delivery, job, outcome, after)
    raise TryAgain(outcome.error or f"Answered with {outcome.status_code}.", after)


def _take_turn(endpoint: WebhookEndpoint, now: datetime) -> None:
    """A failing endpoint is tried by one at a time, when its pause is over."""
    if not endpoint.failures:
        return
    mine = WebhookEndpoint.objects.filter(pk=endpoint.pk).filter(
        Q(paused_until=None) | Q(paused_until__lte=now)
    )
    if mine.update(paused_until=now + timedelta(seconds=_TRY_S)):
        return
    # A random part of the pause on top, so that those who wait do not come all at once.
    until = max(endpoint.paused_until or now, now) + PAUSE.wait_after(endpoint.failures) / 2
    raise Postponed(until)


def _note(delivery: WebhookDelivery, job: HeldJob, outcome: Outcome) -> None:
    WebhookAttempt.objects.create(
        organization_id=delivery.organization_id,
        delivery=delivery,
        number=job.attempt,
        status_code=outcome.status_code,
        latency_ms=outcome.latency_ms,
        error=outcome.error,
        answer=outcome.answer,
    )


def _end(delivery: WebhookDelivery, state: str) -> None:
    WebhookDelivery.objects.filter(pk=delivery.pk, state=State.WAITING).update(
        state=state, ended_at=timezone.now(), next_attempt_at=None
    )


def _well(endpoint: WebhookEndpoint) -> None:
    if endpoint.failures:
        WebhookEndpoint.objects.filter(pk=endpoint.pk).update(
            failures=0, failing_since=None, paused_until=None
        )


@transaction.atomic
def _failed(delivery: WebhookDelivery, job: HeldJob, outcome: Outcome, after: timedelta) -> None:
    """Before the job itself is told: a worker that dies in between tries once more."""
    now = timezone.now()
    _note(delivery, job, outcome)
    if job.is_last_attempt:
        _end(delivery, State.FAILED)
    else:
        WebhookDelivery.objects.filter(pk=delivery.pk).update(next_attempt_at=now + after)
    endpoint = delivery.endpoint
    WebhookEndpoint.objects.filter(pk=endpoint.pk).update(failures=F("failures") + 1)
    WebhookEndpoint.objects.filter(pk=endpoint.pk, failing_since=None).update(failing_since=now)
    endpoint.refresh_from_db()
    since = endpoint.failing_since or now
    if outcome.status_code == _ANSWERS_GONE or now - since >= DISABLE_AFTER:
        _disable(endpoint, is_gone=outcome.status_code == _ANSWERS_GONE)
        return
    pause = PAUSE.wait_after(endpoint.failures)
    WebhookEndpoint.objects.filter(pk=endpoint.pk).update(paused_until=now + pause)


def _disable(endpoint: WebhookEndpoint, *, is_gone: bool) -> None:
    disabled = WebhookEndpoint.Disabled.BY_FAILURES
    if WebhookEndpoint.objects.filter(pk=endpoint.pk, disabled="").update(disabled=disabled):
        notices.tell_disabled(endpoint, is_gone=is_gone)
