"""What happened is told in the transaction in which it happens, or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db import transaction
from django.utils import timezone

from tenants import jobs
from tenants.models import Job, Organization, WebhookDelivery, WebhookEndpoint, WebhookEvent
from tenants.webhooks.types import TEST, TYPES

DELIVERY = "webhook.delivery"
# Pauses of 5 s, 20 s, 80 s … and at most 12 h between them: 28 to 56 hours (delivery.py).
ATTEMPTS = 12
# To one endpoint. What comes beyond is noted as not sent: something there is broken for long.
MOST_WAITING = 5_000


@transaction.atomic
def tell(
    organization: Organization | int,
    type: str,
    data: Mapping[str, Any],
    *,
    project: int | None = None,
) -> WebhookEvent | None:
    """Tell the endpoints that want events of this type; None, and no row, if none does.

    Part of the caller's transaction: told when, and only when, that commits. ``data`` is
    sent as it is, so it holds identifiers and no content: ``{"id": "batch_…"}``.
    ``organization`` and ``project`` are rows or primary keys; call it in the organization's
    scope or staff's. Each call is an event of its own: call it where the thing happens once.
    """
    if type not in TYPES:
        raise ValueError(f"{type!r} is no type of event.")
    pk = organization if isinstance(organization, int) else organization.pk
    wanting = WebhookEndpoint.objects.filter(
        organization=pk, disabled="", events__contains=[type]
    ).select_related("organization")
    endpoints = list(wanting)
    if not endpoints:
        return None
    event = WebhookEvent.objects.create(
        organization_id=pk, project_id=project, type=type, data=dict(data)
    )
    for endpoint in endpoints:
        send(endpoint, event)
    return event


def make_test_event(endpoint: WebhookEndpoint) -> WebhookEvent:
    """An event that tells nothing, for one endpoint."""
    return WebhookEvent.objects.create(
        organization=endpoint.organization, type=TEST, data={"id": endpoint.public_id}
    )


def send(
    endpoint: WebhookEndpoint, event: WebhookEvent, *, is_replay: bool = False
) -> WebhookDelivery:
    """A delivery and the job that makes it, or its note if too many wait already."""
    waiting = WebhookDelivery.objects.filter(endpoint=endpoint, state=WebhookDelivery.State.WAITING)
    has_room = waiting[:MOST_WAITING].count() < MOST_WAITING
    delivery = WebhookDelivery.objects.create(
        organization=endpoint.organization,
        endpoint=endpoint,
        event=event,
        is_replay=is_replay,
        **({} if has_room else _NOT_SENT | {"ended_at": timezone.now()}),
    )
    if has_room:
        jobs.enqueue(
            DELIVERY,
            delivery.public_id,
            organization=endpoint.organization,
            payload={"delivery": delivery.pk},
            priority=Job.Priority.NORMAL,
            max_attempts=ATTEMPTS,
        )
    return delivery


_NOT_SENT = {"state": WebhookDelivery.State.DROPPED}
