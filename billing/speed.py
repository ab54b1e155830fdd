"""How fast an organization's requests were answered lately, and what models cost now."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from django.db import connection

from billing.models import Price
from tenants.models import Organization

# A busy organization's hour has more requests than percentiles need.
MOST_REQUESTS = 20_000


@dataclass(frozen=True)
class Speed:
    """Of completed requests of one model. None: none of them tells."""

    requests: int
    median_ms: int | None  # until the first token
    p95_ms: int | None
    tokens_per_s: float | None  # of one answer, after its first token


_SPEEDS = """
SELECT model, count(*),
    percentile_disc(0.5) WITHIN GROUP (ORDER BY time_to_first_token_ms),
    percentile_disc(0.95) WITHIN GROUP (ORDER BY time_to_first_token_ms),
    1000.0 * sum(completion_tokens - 1) FILTER (WHERE decoded) /
        NULLIF(sum(duration_ms - time_to_first_token_ms) FILTER (WHERE decoded), 0)
FROM (
    SELECT model, time_to_first_token_ms, completion_tokens, duration_ms,
        completion_tokens > 1 AND duration_ms > time_to_first_token_ms AS decoded
    FROM billing_usageevent
    WHERE organization_id = %s AND started_at >= %s AND status = 'completed' AND NOT cache_hit
        AND tier <> 'batch'
    ORDER BY started_at DESC LIMIT %s
) AS lately
GROUP BY model
"""


def get_speeds(organization: Organization, since: datetime) -> dict[str, Speed]:
    """By model, of its latest 20,000 requests since then; batches and cached answers tell nothing."""
    with connection.cursor() as cursor:
        cursor.execute(_SPEEDS, [organization.pk, since, MOST_REQUESTS])
        return {
            model: Speed(requests, median, p95, None if rate is None else float(rate))
            for model, requests, median, p95, rate in cursor.fetchall()
        }


def get_current_prices(models: Collection[str], at: datetime) -> dict[str, Price]:
    """By model, as in force at ``at``; a model without one costs nothing."""
    prices = (
        Price.objects.filter(model__in=models, effective_from__lte=at)
        .order_by("model", "-effective_from")
        .distinct("model")
    )
    return {price.model: price for price in prices}
