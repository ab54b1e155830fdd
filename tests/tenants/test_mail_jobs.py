"""Mail by jobs: with the cause or not at all, again until the server takes it, and no more."""

from __future__ import annotations

from datetime import timedelta
from smtplib import SMTPRecipientsRefused, SMTPServerDisconnected
from typing import Any

import pytest
from django.core import mail as outgoing
from django.db import transaction
from django.utils import timezone

from tenants import access, actions, jobs, key_expiry, mail
from tenants.models import ApiKey, AuditEvent, Invitation, Job, Membership, Role, WebhookEvent
from tests.cast import Cast
from tests.jobs import run_due_jobs

pytestmark = pytest.mark.django_db


def invite(cast: Cast, email: str = "new@example.com") -> tuple[Invitation, str]:
    actor = access.get_actor(
        Membership.objects.get(organization=cast.organization, user=cast.owner)
    )
    with transaction.atomic():
        invitation, token = actions.invite_member(
            cast.organization, email, Role.VIEWER, actor=actor
        )
        mail.send_invitation(invitation, token)
    return invitation, token


def let_retry() -> None:
    Job.objects.filter(state="queued").update(run_after=timezone.now())


def test_an_invitation_is_mailed_once_with_its_link(cast: Cast) -> None:
    invitation, token = invite(cast)
    assert token not in str(Job.objects.values().get())
    mail.send_invitation(invitation, token)
    assert run_due_jobs() == ["succeeded"]
    (message,) = outgoing.outbox
    assert message.to == ["new@example.com"] and mail.invitation_link(token) in message.body
    job = Job.objects.get()
    assert message.extra_headers["Message-ID"].startswith(f"<{job.public_id}@")
    assert job.sealed is None


@pytest.mark.parametrize("end", ["revoked", "replaced", "expired"])
def test_a_link_that_is_dead_is_not_mailed(cast: Cast, end: str) -> None:
    invitation, _ = invite(cast)
    if end == "revoked":
        actions.revoke_invitation(invitation, acting_user=cast.owner)
    elif end == "expired":
        Invitation.objects.update(expires_at=timezone.now())
    else:
        invite(cast)
    run_due_jobs()
    assert len(outgoing.outbox) == (1 if end == "replaced" else 0)


def refuse_with(monkeypatch: pytest.MonkeyPatch, *errors: Exception | None) -> None:
    """The mail server's next answers."""
    answers = iter(errors)
    send = outgoing.EmailMessage.send

    def answer(message: Any, *args: Any, **options: Any) -> Any:
        if error := next(answers, None):
            raise error
        return send(message, *args, **options)

    monkeypatch.setattr(outgoing.EmailMessage, "send", answer)


def test_a_server_that_is_away_is_asked_again(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_with(
        monkeypatch,
        SMTPServerDisconnected("gone"),
        SMTPRecipientsRefused({"new@example.com": (450, b"greylisted")}),
    )
    invite(cast)
    for expected in ("retried", "retried", "succeeded"):
        assert run_due_jobs() == [expected]
        let_retry()
    assert len(outgoing.outbox) == 1


def test_an_address_that_is_refused_for_good_is_not(
    cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_with(monkeypatch, SMTPRecipientsRefused({"new@example.com": (550, b"unknown")}))
    invite(cast)
    assert run_due_jobs() == ["failed"]
    assert "for good" in Job.objects.get().error


def test_a_crash_after_the_server_took_it_sends_it_again_under_the_same_id(cast: Cast) -> None:
    """At least once: what SMTP allows."""
    invite(cast)
    (job,) = jobs.claim("w")
    mail.deliver_invitation(job)
    Job.objects.update(lease_expires_at=timezone.now() - timedelta(seconds=1))
    jobs.sweep()
    assert run_due_jobs() == ["succeeded"]
    first, second = outgoing.outbox
    assert first.extra_headers["Message-ID"] == second.extra_headers["Message-ID"]
    assert first.body == second.body


# --- Keys that are about to expire ------------------------------------------------------------


def expiring_key(cast: Cast, in_days: float = 3, **fields: Any) -> ApiKey:
    ApiKey.objects.filter(pk=cast.owner_api_key.pk).update(
        expires_at=timezone.now() + timedelta(days=in_days), **fields
    )
    return ApiKey.objects.get(pk=cast.owner_api_key.pk)


def test_who_made_a_key_is_warned_once(cast: Cast) -> None:
    key = expiring_key(cast, created_by=cast.member)
    terms = actions.EndpointTerms("https://hooks.example.com/", ("api_key.expiring",))
    actions.create_webhook(cast.organization, terms, acting_user=None)
    assert key_expiry.warn_expiring_keys() == 1
    assert key_expiry.warn_expiring_keys() == 0
    told = WebhookEvent.objects.get()  # once too
    assert told.data == {"id": key.public_id, "expires_at": int(key.expires_at.timestamp())}
    Job.objects.filter(kind="webhook.delivery").delete()
    event = AuditEvent.objects.get(action="api_key.expiry_warned")  # once, as the mail
    assert event.after["told"] and event.actor_type == AuditEvent.Actor.SYSTEM
    assert run_due_jobs() == ["succeeded"]
    (message,) = outgoing.outbox
    assert message.to == [cast.member.email]
    assert key.name in message.body and key.last_four in message.body
    assert f"/o/{cast.organization.public_id}/keys/{key.public_id}/" in message.body


def test_who_manages_them_if_the_creator_has_left(cast: Cast) -> None:
    expiring_key(cast, created_by=cast.stranger)
    key_expiry.warn_expiring_keys()
    run_due_jobs()
    assert {message.to[0] for message in outgoing.outbox} == {cast.owner.email, cast.admin.email}


@pytest.mark.parametrize(
    "change", [{"in_days": 20}, {"revoked_at": timezone.now()}, {"in_days": -1}]
)
def test_nobody_is_warned_of_other_keys(cast: Cast, change: dict[str, Any]) -> None:
    expiring_key(cast, **change)
    assert key_expiry.warn_expiring_keys() == 0
    assert not Job.objects.exists()


def test_a_key_that_was_prolonged_meanwhile_is_not_told_of(cast: Cast) -> None:
    key = expiring_key(cast)
    key_expiry.warn_expiring_keys()
    terms = actions.KeyTerms(expires_at=timezone.now() + timedelta(days=90))
    actions.update_api_key(key, terms=terms, acting_user=cast.owner)
    assert run_due_jobs() == ["succeeded"]
    assert outgoing.outbox == []
