"""How the batches of all organizations fare, for staff."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Count, F, Q, Sum

from inference.batches.models import Batch


@dataclass(frozen=True)
class OpenBatches:
    """Batches that have not ended; ``lines`` of theirs are not run yet."""

    validating: int
    running: int
    lines: int


def measure_open() -> OpenBatches:
    """From the index of open batches: these are few."""
    rest = F("total") - F("completed") - F("failed")
    sums = Batch.objects.filter(ended_at=None).aggregate(
        validating=Count("pk", filter=Q(status=Batch.Status.VALIDATING)),
        open=Count("pk"),
        lines=Sum(rest, default=0),
    )
    return OpenBatches(sums["validating"], sums["open"] - sums["validating"], int(sums["lines"]))
