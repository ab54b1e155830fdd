"""Who a request comes from and what limits apply: one frozen value, read once."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one subject; None sets none. Tokens are prompt plus output."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent_requests: int | None = None
    monthly_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated API key with its project, organization and plan."""

    api_key: int
    project: int
    organization: int
    organization_public_id: str
    fair_share_weight: int
    region: str
    data_residency: bool
    screening_policy: str
    response_cache_ttl_s: int
    is_suspended: bool
    key_expires_at: float | None  # Unix seconds
    organization_limits: Limits
    key_limits: Limits
