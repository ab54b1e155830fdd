"""Webhooks: told with their cause or not at all, signed, tried again, and no one waits for
another's dead endpoint. Receivers are real servers; time passes by moving what is stored."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import openai
import pytest
from django.core import mail as outgoing
from django.db import transaction
from django.utils import timezone

from tenants import actions, jobs, scope, webhooks
from tenants.actions.webhooks import EndpointTerms
from tenants.errors import AlreadyDone, InvalidInput, NotFound
from tenants.models import (
    AuditEvent,
    Job,
    Membership,
    WebhookAttempt,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookEvent,
)
from tenants.webhooks import delivery as delivering
from tenants.webhooks import log, outbox, signing
from tests.cast import Cast
from tests.jobs import run_due_jobs
from tests.tenants.receiver import Received, Receiver

pytestmark = pytest.mark.django_db
State = WebhookDelivery.State


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


def make(cast: Cast, url: str, *events: str, **more: Any) -> tuple[WebhookEndpoint, str]:
    terms = EndpointTerms(url, events or ("batch.completed",), **more)
    return actions.create_webhook(cast.organization, terms, acting_user=cast.owner)


def tell(cast: Cast, what: str = "batch.completed", name: str = "batch_1") -> WebhookEvent | None:
    return webhooks.tell(cast.organization, what, {"id": name}, project=cast.project.pk)


def pass_time(**fields: float) -> None:
    """So long ago everything happened; what is due by then is due now."""
    by = timedelta(**fields)
    for endpoint in WebhookEndpoint.objects.all():
        for name in ("failing_since", "paused_until", "previous_expires_at"):
            if (value := getattr(endpoint, name)) is not None:
                setattr(endpoint, name, value - by)
        endpoint.save()
    for job in Job.objects.open():
        Job.objects.filter(pk=job.pk).update(run_after=job.run_after - by)
    for each in WebhookDelivery.objects.all():
        WebhookDelivery.objects.filter(pk=each.pk).update(created_at=each.created_at - by)


def unwrapped(secret: str, received: Received) -> Any:
    client = openai.OpenAI(api_key="none", webhook_secret=secret)
    return client.webhooks.unwrap(received.body, received.headers)


# --- What is sent ---------------------------------------------------------------------------


def test_openais_client_verifies_and_reads_what_is_sent(cast: Cast, receiver: Receiver) -> None:
    _, secret = make(cast, receiver.url)
    event = tell(cast)
    assert event is not None
    assert run_due_jobs() == ["succeeded"]
    (received,) = receiver.received
    told = unwrapped(secret, received)
    assert (told.id, told.type, told.object) == (event.public_id, "batch.completed", "event")
    assert told.data.id == "batch_1" and told.created_at == int(event.created_at.timestamp())
    assert type(told).__name__ == "BatchCompletedWebhookEvent"
    assert received.headers["content-type"] == "application/json"
    with pytest.raises(openai.InvalidWebhookSignatureError):
        unwrapped(signing.new_secret(), received)
    received.body = received.body.replace(b"batch_1", b"batch_2")
    with pytest.raises(openai.InvalidWebhookSignatureError):
        unwrapped(secret, received)
    delivery = WebhookDelivery.objects.get()
    attempt = WebhookAttempt.objects.get()
    assert delivery.state == State.DELIVERED and delivery.ended_at is not None
    assert (attempt.number, attempt.status_code, attempt.answer) == (1, 200, "ok")


def test_the_signature_is_the_standards_own_example() -> None:
    """From the Standard Webhooks specification's reference implementations."""
    assert (
        signing.signature(
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1614265330,
            b'{"test": 2432232314}',
        )
        == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    )
    secret = signing.new_secret()
    assert len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)) == 32


def test_only_what_was_asked_for_is_told_and_to_whom_it_belongs(
    cast: Cast, receiver: Receiver
) -> None:
    make(cast, receiver.url, "batch.failed")
    make(cast, receiver.url, "batch.completed", is_enabled=False)
    assert tell(cast) is None
    assert webhooks.tell(cast.other_organization, "batch.failed", {"id": "x"}) is None
    assert not WebhookEvent.objects.exists()
    assert tell(cast, "batch.failed") is not None
    with pytest.raises(ValueError, match="no type of event"):
        tell(cast, "batch.exploded")


def test_what_is_rolled_back_was_never_told(cast: Cast, receiver: Receiver) -> None:
    make(cast, receiver.url)
    with pytest.raises(RuntimeError), transaction.atomic():
        tell(cast)
        raise RuntimeError
    assert not WebhookEvent.objects.exists() and not Job.objects.exists()
    assert run_due_jobs() == [] and receiver.received == []


def test_the_web_tells_in_its_organizations_scope(cast: Cast, receiver: Receiver) -> None:
    make(cast, receiver.url)
    with scope.entered(scope.Scope(organization=cast.organization.pk)):
        assert tell(cast) is not None
    with scope.entered(scope.Scope(organization=cast.other_organization.pk)):
        assert tell(cast) is None


def test_a_crash_after_the_receiver_took_it_sends_it_again_under_the_same_id(
    cast: Cast, receiver: Receiver
) -> None:
    """At least once: receivers know the second by its ``webhook-id``."""
    make(cast, receiver.url)
    tell(cast)

    def dying() -> Any:
        raise KeyboardInterrupt

    (job,) = jobs.claim("w")
    with pytest.raises(KeyboardInterrupt):
        delivering.deliver(job, dying)
    Job.objects.update(lease_expires_at=timezone.now() - timedelta(seconds=1))
    jobs.sweep()
    assert run_due_jobs() == ["succeeded"]
    first, second = receiver.received
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body


# --- Trying again -----------------------------------------------------------------------------


def test_the_pauses_grow_and_end_within_three_days() -> None:
    for chance, hours in ((0.0, 28), (1.0, 56)):
        pauses = [
            delivering.BACKOFF.wait_after(attempt, chance) for attempt in range(1, outbox.ATTEMPTS)
        ]
        assert pauses == sorted(pauses)
        total = sum(pauses, timedelta())
        assert hours - 3 < total / timedelta(hours=1) < hours + 1
        assert total < delivering.GIVE_UP_AFTER


def test_what_fails_is_tried_again_until_it_works(cast: Cast, receiver: Receiver) -> None:
    endpoint, _ = make(cast, receiver.url)
    tell(cast)
    receiver.status, receiver.answer = 503, b"z" * 3000
    assert run_due_jobs() == ["retried"]
    assert run_due_jobs() == []  # not at once
    delivery = WebhookDelivery.objects.get()
    assert delivery.state == State.WAITING and delivery.next_attempt_at is not None
    endpoint.refresh_from_db()
    assert endpoint.failures == 1 and endpoint.failing_since is not None
    receiver.status = 204
    pass_time(hours=1)
    assert run_due_jobs() == ["succeeded"]
    first, second = WebhookAttempt.objects.all()
    assert (first.status_code, second.status_code) == (503, 204)
    assert first.answer == "z" * 1024
    endpoint.refresh_from_db()
    assert (endpoint.failures, endpoint.failing_since, endpoint.paused_until) == (0, None, None)


def test_it_is_given_up_after_its_attempts(cast: Cast, receiver: Receiver) -> None:
    make(cast, receiver.url)
    tell(cast)
    receiver.status = 500
    outcomes: list[str] = []
    for _ in range(outbox.ATTEMPTS):
        outcomes += run_due_jobs()
        # As far as it takes until the next one is due.
        pass_time(seconds=delivering.BACKOFF.wait_after(len(outcomes), 1.0).total_seconds() + 1)
        WebhookDelivery.objects.update(created_at=timezone.now())
        WebhookEndpoint.objects.update(failing_since=timezone.now())
    assert outcomes == ["retried"] * (outbox.ATTEMPTS - 1) + ["failed"]
    assert WebhookDelivery.objects.get().state == State.FAILED
    assert len(receiver.received) == outbox.ATTEMPTS and run_due_jobs() == []


@pytest.mark.parametrize("status", [301, 307, 400, 404, 500])
def test_only_a_2xx_is_success_and_no_redirect_is_followed(
    cast: Cast, receiver: Receiver, status: int
) -> None:
    with Receiver() as elsewhere:
        receiver.status, receiver.location = status, elsewhere.url
        make(cast, receiver.url)
        tell(cast)
        assert run_due_jobs() == ["retried"]
        assert elsewhere.received == []
    assert WebhookAttempt.objects.get().status_code == status


def test_a_dead_endpoint_costs_one_attempt_a_pause_and_delays_no_other(
    cast: Cast, receiver: Receiver
) -> None:
    with Receiver() as gone:
        url = gone.url
    dead, _ = make(cast, url)
    make(cast, receiver.url)
    for number in range(5):
        tell(cast, name=f"batch_{number}")
    outcomes = run_due_jobs()
    assert len(receiver.received) == 5 and outcomes.count("succeeded") == 5
    assert outcomes.count("retried") == 1 and outcomes.count("postponed") == 4
    assert WebhookAttempt.objects.filter(delivery__endpoint=dead).count() == 1
    assert "refused" in WebhookAttempt.objects.get(delivery__endpoint=dead).error
    # A postponed one made no attempt, and after the pause one of all tries again.
    assert sorted(Job.objects.open().values_list("attempts", flat=True)) == [0, 0, 0, 0, 1]
    pass_time(seconds=15)
    assert sorted(run_due_jobs()).count("retried") == 1
    assert WebhookAttempt.objects.filter(delivery__endpoint=dead).count() == 2


def test_what_waited_too_long_is_given_up(cast: Cast, receiver: Receiver) -> None:
    make(cast, receiver.url)
    tell(cast)
    pass_time(hours=73)
    run_due_jobs()
    assert receiver.received == [] and WebhookDelivery.objects.get().state == State.FAILED


def test_no_more_wait_than_the_bound(
    cast: Cast, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "MOST_WAITING", 2)
    make(cast, receiver.url)
    for number in range(4):
        tell(cast, name=f"batch_{number}")
    states = list(WebhookDelivery.objects.order_by("pk").values_list("state", flat=True))
    assert states == [State.WAITING, State.WAITING, State.DROPPED, State.DROPPED]
    assert run_due_jobs() == ["succeeded"] * 2


# --- Disabled -----------------------------------------------------------------------------------


def test_days_of_failures_disable_it_and_its_people_are_told(
    cast: Cast, receiver: Receiver
) -> None:
    endpoint, _ = make(cast, receiver.url)
    receiver.status = 500
    tell(cast)
    assert run_due_jobs() == ["retried"]
    pass_time(days=6)
    WebhookDelivery.objects.update(created_at=timezone.now())
    tell(cast, name="batch_2")
    run_due_jobs()
    endpoint.refresh_from_db()
    assert endpoint.disabled == WebhookEndpoint.Disabled.BY_FAILURES
    people = Membership.objects.filter(
        organization=cast.organization, role__in=("owner", "admin"), user__is_active=True
    )
    told = people.values_list("user__email", flat=True)
    assert sorted(message.to[0] for message in outgoing.outbox) == sorted(told)
    assert all(
        "6 days" in message.body and endpoint.public_id in message.body
        for message in outgoing.outbox
    )
    event = AuditEvent.objects.get(action="webhook.disabled_by_failures")
    assert event.actor_type == AuditEvent.Actor.SYSTEM
    # What waits for it is not sent, and nothing new is told.
    sent = len(receiver.received)
    pass_time(hours=1)
    run_due_jobs()
    assert len(receiver.received) == sent and tell(cast) is None
    assert not WebhookDelivery.objects.filter(state=State.WAITING).exists()
    # Enabled again it begins anew.
    terms = EndpointTerms(endpoint.url, ("batch.completed",))
    actions.update_webhook(endpoint, terms, acting_user=cast.owner)
    receiver.status = 200
    tell(cast)
    assert run_due_jobs() == ["succeeded"]


def test_gone_is_gone(cast: Cast, receiver: Receiver) -> None:
    endpoint, _ = make(cast, receiver.url)
    receiver.status = 410
    tell(cast)
    run_due_jobs()
    endpoint.refresh_from_db()
    assert not endpoint.is_enabled and "410" in outgoing.outbox[0].body


# --- Addresses ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/", "https://[::1]/", "https://169.254.169.254/latest/meta-data/",
        "https://2130706433/", "https://0x7f000001/", "https://[::ffff:10.0.0.1]/",
        "https://user:pw@example.com/", "http://example.com/", "https://example.com:22/",
        "ftp://example.com/", "https://", "nonsense", "https://localhost/",
    ],
)  # fmt: skip
def test_private_addresses_are_refused(cast: Cast, settings: Any, url: str) -> None:
    settings.OUTBOUND_PRIVATE_NETWORKS = []
    with pytest.raises(InvalidInput) as refusal:
        make(cast, url)
    assert refusal.value.param == "url" and not WebhookEndpoint.objects.exists()


def test_an_address_that_turned_private_is_not_reached(
    cast: Cast, receiver: Receiver, settings: Any
) -> None:
    make(cast, receiver.url)
    settings.OUTBOUND_PRIVATE_NETWORKS = []
    tell(cast)
    assert run_due_jobs() == ["retried"]
    assert receiver.received == []
    assert WebhookAttempt.objects.get().error == "This host is not on the public internet."


# --- Secrets ----------------------------------------------------------------------------------------


def test_after_a_rotation_both_secrets_sign_until_the_overlap_ends(
    cast: Cast, receiver: Receiver
) -> None:
    endpoint, old = make(cast, receiver.url)
    stale = WebhookEndpoint.objects.get()
    new = actions.rotate_webhook_secret(endpoint, acting_user=cast.owner)
    with pytest.raises(AlreadyDone):
        actions.rotate_webhook_secret(stale, acting_user=cast.owner)
    tell(cast)
    run_due_jobs()
    for secret in (old, new):
        assert unwrapped(secret, receiver.received[0]).type == "batch.completed"
    pass_time(hours=25)
    tell(cast)
    run_due_jobs()
    assert unwrapped(new, receiver.received[1]).type == "batch.completed"
    with pytest.raises(openai.InvalidWebhookSignatureError):
        unwrapped(old, receiver.received[1])


def test_a_secret_is_stored_encrypted_and_neither_logged_nor_audited(
    cast: Cast, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    endpoint, first = make(cast, receiver.url)
    second = actions.rotate_webhook_secret(endpoint, acting_user=cast.owner)
    receiver.status = 500
    tell(cast)
    run_due_jobs()
    stored = json.dumps(
        [list(model.objects.values()) for model in (WebhookEndpoint, WebhookEvent, Job, AuditEvent)],
        default=lambda value: bytes(value).decode("latin1") if isinstance(value, memoryview | bytes) else str(value),
    )  # fmt: skip
    assert endpoint.public_id in stored
    for secret in (first, second):
        assert secret.removeprefix("whsec_")[:20] not in stored + caplog.text


# --- By hand ------------------------------------------------------------------------------------


def test_a_test_event_and_a_replay(cast: Cast, receiver: Receiver) -> None:
    endpoint, secret = make(cast, receiver.url)
    delivery = actions.send_test_event(endpoint, acting_user=cast.owner)
    with pytest.raises(AlreadyDone):
        actions.replay_delivery(delivery, acting_user=cast.owner)
    run_due_jobs()
    assert unwrapped(secret, receiver.received[0]).type == "webhook.test"
    delivery.refresh_from_db()
    again = actions.replay_delivery(delivery, acting_user=cast.owner)
    assert run_due_jobs() == ["succeeded"]
    first, second = receiver.received
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert [each.public_id for each in log.get_deliveries(endpoint)] == [
        again.public_id, delivery.public_id,
    ]  # fmt: skip
    with pytest.raises(NotFound):
        log.access_endpoint(cast.other_organization, endpoint.public_id)


def test_by_hand_it_does_not_wait_for_the_pause(cast: Cast, receiver: Receiver) -> None:
    endpoint, _ = make(cast, receiver.url)
    receiver.status = 500
    tell(cast)
    run_due_jobs()
    receiver.status = 200
    endpoint.refresh_from_db()
    actions.send_test_event(endpoint, acting_user=cast.owner)
    assert run_due_jobs() == ["succeeded"]


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"events": ()}, "events"),
        ({"events": ("batch.exploded",)}, "events"),
        ({"events": ("webhook.test",)}, "events"),
        ({"description": "x" * 201}, "description"),
        ({"description": "two\nlines"}, "description"),
    ],
)
def test_what_is_refused(cast: Cast, changes: dict[str, Any], param: str) -> None:
    terms = {"url": "https://hooks.example.com/", "events": ("batch.completed",)} | changes
    with pytest.raises(InvalidInput) as refusal:
        actions.create_webhook(cast.organization, EndpointTerms(**terms), acting_user=cast.owner)
    assert refusal.value.param == param


def test_an_organization_has_at_most_twenty(cast: Cast) -> None:
    for number in range(20):
        make(cast, f"https://hooks.example.com/{number}")
    with pytest.raises(InvalidInput, match="at most 20"):
        make(cast, "https://hooks.example.com/more")


def test_the_log_is_forgotten_after_a_month(cast: Cast, receiver: Receiver) -> None:
    make(cast, receiver.url)
    tell(cast)
    run_due_jobs()
    assert log.purge_log() == 0
    WebhookEvent.objects.update(created_at=timezone.now() - timedelta(days=31))
    assert log.purge_log() == 1
    assert not WebhookDelivery.objects.exists() and not WebhookAttempt.objects.exists()


def test_a_delivery_whose_job_died_silently_is_given_up(cast: Cast, receiver: Receiver) -> None:
    make(cast, receiver.url)
    tell(cast)
    Job.objects.all().delete()
    WebhookDelivery.objects.update(created_at=timezone.now() - timedelta(days=7))
    log.purge_log()
    assert WebhookDelivery.objects.get().state == State.FAILED
