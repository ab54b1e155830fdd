"""What one request used, on its way from whoever saw it end to the ledger.

Reports are appended to the Redis stream ``usage.reports`` by the settle script
(``tenants.admission``), at least once; ``billing.actions.record_usage`` makes
them rows, exactly once by request id.
"""

from __future__ import annotations

import msgspec

STREAM = "usage.reports"
FIELD = b"report"


class UsageReport(msgspec.Struct, frozen=True, array_like=True):
    """Field for field a ``billing.models.UsageEvent`` before it has a price."""

    request_id: str
    organization: int
    project: int
    api_key: int | None
    model: str
    endpoint: str  # "chat.completions", "completions", "embeddings"
    status: str  # UsageEvent.Status
    source: str  # UsageEvent.Source
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    started_at: float  # Unix seconds
    time_to_first_token_ms: int | None
    duration_ms: int
    replica: str = ""
    cache_hit: bool = False
    flags: list[str] = []
    engine_us: int = 0  # its sequences' part of their engines' time
    tier: str = "standard"  # UsageEvent.Tier


encode_report = msgspec.msgpack.Encoder().encode
decode_report = msgspec.msgpack.Decoder(UsageReport).decode
