"""What a batch process counts of background responses."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

ENDED = Counter(
    "sluice_background_responses",
    "Attempts at background responses by how they ended in this process: completed, incomplete, "
    "failed, cancelled, later, lost (somebody else's by then).",
    ["outcome"],
)
OPEN = Gauge("sluice_background_responses_open", "Of the installation: queued or in progress.")
IN_FLIGHT = Gauge("sluice_background_responses_in_flight", "Being made by this process.")
REAPED = Counter("sluice_background_leases_expired", "Responses whose process died or was cut off.")
