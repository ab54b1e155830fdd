"""What a batch process counts."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

LINES = Counter(
    "sluice_batch_lines",
    "Lines by their end in this process: done, failed, lost (somebody else's by then), later.",
    ["outcome"],
)
IN_FLIGHT = Gauge("sluice_batch_lines_in_flight", "Lines at the replicas.", ["model"])
WINDOW = Gauge("sluice_batch_lines_window", "Most lines at the replicas now.", ["model"])
UNCOMMITTED = Gauge("sluice_batch_uncommitted_results", "Results that wait for PostgreSQL.")
OPEN_LINES = Gauge("sluice_batch_open_lines", "Lines of the installation that are not run yet.")
LAST_COMMIT = Gauge("sluice_batch_last_commit_seconds", "Unix time of the last line's end.")
REAPED = Counter("sluice_batch_leases_expired", "Lines whose process died or was cut off.")
