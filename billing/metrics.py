"""Prometheus metrics of the way from usage reports to the ledger."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

RECORDED = Counter("sluice_usage_recorded", "Usage events recorded.")
DUPLICATES = Counter(
    "sluice_usage_duplicate", "Usage reports of requests that were recorded before."
)
REJECTED = Counter("sluice_usage_rejected", "Usage reports set aside as RejectedReport.")
STREAM_LENGTH = Gauge("sluice_usage_stream_length", "Usage reports waiting in Redis.")
STREAM_AGE_S = Gauge(
    "sluice_usage_oldest_report_seconds", "Age of the oldest usage report waiting in Redis."
)
