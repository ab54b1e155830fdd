"""Answers whose time is over leave the table, and the oldest where there are too many."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.db import connection
from django.utils import timezone

from inference.answers.models import StoredAnswer
from tenants.models import Organization

MOST_A_SWEEP = 5_000
# Everybody's sums first, which read no content: few organizations are over.
_OVER = """
SELECT organization_id, sum(octet_length(content)) FROM inference_storedanswer
GROUP BY organization_id HAVING sum(octet_length(content)) > %s
"""
# What is still to be made is not given up for what has been said.
_OLDEST = """
DELETE FROM inference_storedanswer WHERE id IN (
    SELECT id FROM (
        SELECT id, sum(octet_length(content)) OVER (ORDER BY id DESC) AS held
        FROM inference_storedanswer AS answer
        WHERE organization_id = %s AND NOT EXISTS (
            SELECT FROM inference_backgroundresponse AS work WHERE work.answer_id = answer.id)
    ) AS kept
    WHERE held > %s ORDER BY id LIMIT %s)
"""


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


def trim_answers() -> int:
    """Delete the oldest of each organization that keeps more than it may; returns how many.

    By a sweep and not with each answer: a sum for each would be one row that all of an
    organization's answers wait for. Between two sweeps there may be more.
    """
    most, trimmed = settings.ANSWERS_ORGANIZATION_BYTES, 0
    with connection.cursor() as cursor:
        cursor.execute(_OVER, [most])
        for organization, _ in cursor.fetchall():
            cursor.execute(_OLDEST, [organization, most, MOST_A_SWEEP])
            trimmed += cursor.rowcount
    return trimmed
