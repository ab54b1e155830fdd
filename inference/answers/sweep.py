"""Answers whose time is over leave the table."""

from __future__ import annotations

from datetime import timedelta

from django.utils import timezone

from inference.answers.models import StoredAnswer
from tenants.models import Organization

MOST_A_SWEEP = 5_000


def sweep_answers() -> int:
    """Everybody's, so only for staff. Returns how many went.

    An organization that shortens its time sees less at once, and the rows go here.
    """
    swept = 0
    terms = Organization.objects.order_by("answers_kept_days")
    for days in terms.values_list("answers_kept_days", flat=True).distinct():
        due = StoredAnswer.objects.filter(
            created_at__lte=timezone.now() - timedelta(days=days),
            organization__answers_kept_days=days,
        ).order_by("created_at")
        chosen = list(due.values_list("pk", flat=True)[: MOST_A_SWEEP - swept])
        swept += StoredAnswer.objects.filter(pk__in=chosen).delete()[0]
    return swept
