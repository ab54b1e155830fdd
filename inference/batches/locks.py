"""Row locks of batches, each taken in one place. A batch is locked before its lines."""

from __future__ import annotations

from collections.abc import Collection

from django.db.models.functions import Now

from inference.batches.models import Batch
from tenants.errors import NotFound


def lock_batch(batch: Batch) -> None:
    """Brings it up to date and holds it until the transaction ends."""
    rows = Batch.objects.select_for_update(of=("self",), no_key=True)
    found = rows.filter(pk=batch.pk).first()
    if found is None:
        raise NotFound(f"No such Batch object: {batch.public_id}")
    for field in Batch._meta.concrete_fields:
        setattr(batch, field.attname, getattr(found, field.attname))


def lock_running_batches(pks: Collection[int]) -> dict[int, Batch]:
    """Those of them that are in progress."""
    rows = Batch.objects.select_for_update(of=("self",), no_key=True)
    running = rows.filter(pk__in=pks, status=Batch.Status.IN_PROGRESS)
    return {row.pk: row for row in running.select_related("organization", "project").order_by("pk")}


def lock_expired_batches(most: int) -> list[Batch]:
    """Running ones whose day is over; what is locked is being changed, and looked at again."""
    rows = Batch.objects.select_for_update(of=("self",), no_key=True, skip_locked=True)
    expired = rows.filter(status=Batch.Status.IN_PROGRESS, expires_at__lt=Now())
    return list(expired.select_related("organization", "project").order_by("pk")[:most])
