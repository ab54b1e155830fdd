"""What the room's admission counts."""

from __future__ import annotations

from prometheus_client import Counter

FALLBACK = Counter(
    "sluice_admission_fallback",
    "Requests judged without Redis: admitted, refused by this process's share, closed for money",
    ["limit", "outcome"],
)
