"""Webhook endpoints made, changed, rotated and removed; events sent by hand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from tenants import audit, identifiers, locks
from tenants.errors import AlreadyDone, InvalidInput
from tenants.models import Organization, User, WebhookDelivery, WebhookEndpoint
from tenants.outbound import check_server_url
from tenants.webhooks.endpoint_secrets import seal
from tenants.webhooks.outbox import make_test_event, send
from tenants.webhooks.signing import new_secret
from tenants.webhooks.types import TYPES

MOST_ENDPOINTS = 20
OVERLAP = timedelta(hours=24)
# By hand, beside what happens by itself.
MOST_WAITING_BY_HAND = 100


@dataclass(frozen=True)
class EndpointTerms:
    url: str
    events: tuple[str, ...]
    description: str = ""
    is_enabled: bool = True


@transaction.atomic
def create_webhook(
    organization: Organization,
    terms: EndpointTerms,
    *,
    public_id: str | None = None,
    acting_user: User | None,
    address: str | None = None,
) -> tuple[WebhookEndpoint, str]:
    """The endpoint and its secret, which is shown this once. AlreadyDone if one has this
    ``public_id``: a form was sent twice."""
    locks.lock_organization(organization)
    if WebhookEndpoint.objects.filter(organization=organization).count() >= MOST_ENDPOINTS:
        raise InvalidInput(f"An organization has at most {MOST_ENDPOINTS} webhook endpoints.")
    secret = new_secret()
    endpoint = WebhookEndpoint(
        public_id=public_id or identifiers.new_webhook_id(),
        organization=organization,
        created_by=acting_user,
        secret_encrypted=seal(secret),
    )
    _apply(endpoint, terms)
    try:
        with transaction.atomic():
            endpoint.save()
    except IntegrityError as error:
        raise AlreadyDone("This webhook was added before.") from error
    endpoint.refresh_from_db()  # the moment is the database's
    _record("webhook.created", endpoint, acting_user, address, after=_shown(endpoint))
    return endpoint, secret


@transaction.atomic
def update_webhook(
    endpoint: WebhookEndpoint,
    terms: EndpointTerms,
    *,
    acting_user: User | None,
    address: str | None = None,
) -> WebhookEndpoint:
    """Enabling it, or another URL, ends its pause and forgets its failures."""
    before = _shown(endpoint)
    is_fresh = terms.url != endpoint.url or (terms.is_enabled and not endpoint.is_enabled)
    _apply(endpoint, terms)
    changed = ["url", "events", "description", "disabled"]
    if is_fresh:
        endpoint.failures, endpoint.failing_since, endpoint.paused_until = 0, None, None
        changed += ["failures", "failing_since", "paused_until"]
    endpoint.save(update_fields=changed)
    after = _shown(endpoint)
    if after != before:
        _record("webhook.updated", endpoint, acting_user, address, before=before, after=after)
    return endpoint


@transaction.atomic
def rotate_webhook_secret(
    endpoint: WebhookEndpoint,
    *,
    overlap: timedelta = OVERLAP,
    acting_user: User | None,
    address: str | None = None,
) -> str:
    """The new secret, shown this once; both sign until the overlap ends. Of two rotations
    at once the second is refused: it would end the secret that receivers still have."""
    if not timedelta(0) <= overlap <= timedelta(days=7):
        raise InvalidInput("The overlap is 0 to 168 hours.", param="overlap_hours")
    now, secret = timezone.now(), new_secret()
    rotated = WebhookEndpoint.objects.filter(pk=endpoint.pk, rotated_at=endpoint.rotated_at)
    if not rotated.update(
        secret_encrypted=seal(secret),
        previous_secret_encrypted=endpoint.secret_encrypted if overlap else None,
        previous_expires_at=now + overlap if overlap else None,
        rotated_at=now,
    ):
        raise AlreadyDone("This secret was rotated meanwhile.")
    after = {"overlap_hours": overlap.total_seconds() / 3600}
    _record("webhook.secret_rotated", endpoint, acting_user, address, after=after)
    endpoint.refresh_from_db()
    return secret


@transaction.atomic
def delete_webhook(
    endpoint: WebhookEndpoint, *, acting_user: User | None, address: str | None = None
) -> None:
    """With its log; what waits for it is not sent."""
    _record("webhook.deleted", endpoint, acting_user, address, before=_shown(endpoint))
    endpoint.delete()


@transaction.atomic
def send_test_event(
    endpoint: WebhookEndpoint, *, acting_user: User | None, address: str | None = None
) -> WebhookDelivery:
    """A ``webhook.test`` event to this endpoint."""
    _check_by_hand(endpoint)
    delivery = send(endpoint, make_test_event(endpoint))
    after = {"delivery": delivery.public_id}
    _record("webhook.tested", endpoint, acting_user, address, after=after)
    return delivery


@transaction.atomic
def replay_delivery(
    delivery: WebhookDelivery, *, acting_user: User | None, address: str | None = None
) -> WebhookDelivery:
    """The same event once more, under the same ``webhook-id``, with all its attempts."""
    endpoint = delivery.endpoint
    if delivery.state == WebhookDelivery.State.WAITING:
        raise AlreadyDone("This delivery is still under way.")
    _check_by_hand(endpoint)
    again = send(endpoint, delivery.event, is_replay=True)
    after = {"event": delivery.event.public_id, "delivery": again.public_id}
    _record("webhook.replayed", endpoint, acting_user, address, after=after)
    return again


def _check_by_hand(endpoint: WebhookEndpoint) -> None:
    """Who sends by hand looks at the result now: the endpoint's pause ends."""
    if not endpoint.is_enabled:
        raise AlreadyDone("This endpoint is disabled; enable it first.")
    waiting = WebhookDelivery.objects.filter(endpoint=endpoint, state=WebhookDelivery.State.WAITING)
    if waiting[:MOST_WAITING_BY_HAND].count() >= MOST_WAITING_BY_HAND:
        raise AlreadyDone(f"{MOST_WAITING_BY_HAND} deliveries wait for this endpoint already.")
    WebhookEndpoint.objects.filter(pk=endpoint.pk).update(paused_until=None)


def _apply(endpoint: WebhookEndpoint, terms: EndpointTerms) -> None:
    description = terms.description.strip()
    if len(description) > 200 or not all(c.isprintable() for c in description):
        raise InvalidInput("At most 200 characters in one line.", param="description")
    url = terms.url.strip()
    if url != endpoint.url:
        check_server_url(url, param="url")
    endpoint.url, endpoint.description = url, description
    endpoint.events = _checked_events(terms.events)
    if terms.is_enabled:
        endpoint.disabled = WebhookEndpoint.Disabled.NOT
    elif endpoint.is_enabled:
        endpoint.disabled = WebhookEndpoint.Disabled.BY_MEMBER


def _checked_events(events: Iterable[str]) -> list[str]:
    wanted = set(events)
    if unknown := sorted(wanted - TYPES.keys()):
        raise InvalidInput(f"There is no event {unknown[0][:60]!r}.", param="events")
    if not wanted:
        raise InvalidInput("Choose at least one event.", param="events")
    return [name for name in TYPES if name in wanted]


def _shown(endpoint: WebhookEndpoint) -> dict[str, Any]:
    """For the trail: everything but the secrets."""
    return {
        "url": endpoint.url,
        "events": endpoint.events,
        "description": endpoint.description,
        "disabled": endpoint.disabled,
    }


def _record(
    action: str,
    endpoint: WebhookEndpoint,
    acting_user: User | None,
    address: str | None,
    *,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> None:
    audit.record_event(
        acting_user=acting_user,
        action=action,
        object_type="webhook",
        object_id=endpoint.public_id,
        organization=endpoint.organization,
        before=before,
        after=after,
        address=address,
    )
