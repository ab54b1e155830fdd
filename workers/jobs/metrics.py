"""What a control worker counts of durable jobs."""

from __future__ import annotations

import logging

from prometheus_client import Counter, Gauge, Histogram

from tenants.jobs import Measures, Swept

log = logging.getLogger(__name__)

JOBS = Gauge("sluice_jobs", "Jobs that wait or run, in the whole installation.", ["kind", "state"])
OLDEST_WAITING_S = Gauge(
    "sluice_jobs_oldest_waiting_seconds", "How long the first job in line has been due."
)
ATTEMPTS = Counter(
    "sluice_jobs_attempts",
    "Attempts of this worker: succeeded, retried, failed, lost, handed_back, unknown.",
    ["kind", "outcome"],
)
SECONDS = Histogram(
    "sluice_jobs_attempt_seconds",
    "How long attempts took.",
    ["kind"],
    buckets=(0.1, 0.5, 1, 5, 30, 120, 600, 3600),
)
LEASE_EXPIRIES = Counter(
    "sluice_jobs_lease_expiries", "Leases that ran out: a worker died or was cut off.", ["kind"]
)


def show(measures: Measures) -> None:
    """What there is no more of goes away, rather than staying at its last number."""
    JOBS.clear()
    for (kind, state), count in measures.counts.items():
        JOBS.labels(kind, state).set(count)
    OLDEST_WAITING_S.set(measures.oldest_waiting_s)


def tell(swept: Swept) -> None:
    """Count and log the leases that had run out, if any had."""
    for kind, count in (swept.requeued + swept.given_up).items():
        LEASE_EXPIRIES.labels(kind).inc(count)
    for kind, count in swept.given_up.items():
        ATTEMPTS.labels(kind, "failed").inc(count)
    if swept.requeued or swept.given_up:
        told = {"requeued": dict(swept.requeued), "given_up": dict(swept.given_up)}
        log.warning("jobs.leases_expired", extra=told)
