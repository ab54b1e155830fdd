"""What was sent, read; and forgotten again after a month."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, TypeAlias

from django.db.models import Count, OuterRef, Prefetch, QuerySet, Subquery
from django.utils import timezone

from tenants.errors import NotFound
from tenants.models import (
    Organization,
    WebhookAttempt,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookEvent,
)
from tenants.webhooks.delivery import GIVE_UP_AFTER

KEPT_FOR = timedelta(days=30)
_PURGED_AT_ONCE = 5_000


def get_endpoints(organization: Organization) -> QuerySet[WebhookEndpoint]:
    return WebhookEndpoint.objects.filter(organization=organization)


def access_endpoint(organization: Organization, public_id: str) -> WebhookEndpoint:
    endpoint = get_endpoints(organization).filter(public_id=public_id).first()
    if endpoint is None:
        raise NotFound("No such webhook endpoint.")
    return endpoint


# A delivery with ``attempts_made`` and, of its last attempt, ``last_status_code``,
# ``last_latency_ms`` and ``last_error``, which types do not tell.
DeliveryRow: TypeAlias = Any


def get_deliveries(endpoint: WebhookEndpoint) -> QuerySet[DeliveryRow]:
    """Newest first, with the event, the number of attempts and how the last one went."""
    last = WebhookAttempt.objects.filter(delivery=OuterRef("pk")).order_by("-pk")
    return (
        WebhookDelivery.objects.filter(endpoint=endpoint)
        .select_related("event")
        .annotate(
            attempts_made=Count("attempts"),
            last_status_code=Subquery(last.values("status_code")[:1]),
            last_latency_ms=Subquery(last.values("latency_ms")[:1]),
            last_error=Subquery(last.values("error")[:1]),
        )
        .order_by("-pk")
    )


def access_delivery(endpoint: WebhookEndpoint, public_id: str) -> DeliveryRow:
    """With its attempts, oldest first."""
    attempts = Prefetch("attempts", WebhookAttempt.objects.order_by("pk"))
    found = get_deliveries(endpoint).prefetch_related(attempts)
    delivery = found.filter(public_id=public_id).first()
    if delivery is None:
        raise NotFound("No such delivery.")
    return delivery


def purge_log() -> int:
    """Everybody's, so only for staff's scope; returns how many events were forgotten.

    A delivery whose job ended without a word of it (a worker died in its last attempt) is
    given up first.
    """
    now = timezone.now()
    overdue = WebhookDelivery.objects.filter(
        state=WebhookDelivery.State.WAITING, created_at__lt=now - GIVE_UP_AFTER * 2
    )
    overdue.update(state=WebhookDelivery.State.FAILED, ended_at=now, next_attempt_at=None)
    old = WebhookEvent.objects.filter(created_at__lt=now - KEPT_FOR)
    some = list(old.order_by("pk").values_list("pk", flat=True)[:_PURGED_AT_ONCE])
    WebhookEvent.objects.filter(pk__in=some).delete()
    return len(some)
