"""Who a request comes from, what they may do and what limits apply: one frozen value, read once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one subject; None sets none. Tokens are prompt plus output."""

    requests_per_minute: int | None = None
    requests_per_hour: int | None = None
    requests_per_day: int | None = None
    tokens_per_minute: int | None = None
    tokens_per_day: int | None = None
    concurrent_requests: int | None = None
    monthly_tokens: int | None = None
    monthly_budget_micros: int | None = None


NO_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated API key with its project, organization and plan.

    An admin key has no project (0): it manages and never infers. A person who calls without a
    key (``tenants.people``) has a negative number in ``api_key``'s place.
    """

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
    organization_limits: Limits = NO_LIMITS
    project_limits: Limits = NO_LIMITS
    key_limits: Limits = NO_LIMITS
    # By the model's public name: of the plan, counted for the organization; of the project.
    organization_model_limits: Mapping[str, Limits] = field(default_factory=dict)
    project_model_limits: Mapping[str, Limits] = field(default_factory=dict)
    credit_granted_micros: int | None = None  # None: postpaid
    kind: str = "project"  # ApiKey.Kind
    scopes: frozenset[str] = frozenset()  # empty: all that its kind may
    allowed_networks: tuple[str, ...] = ()  # empty: from everywhere
    # Each non-empty set must hold a model for it to be used: the key's, the project's.
    allowed_models: tuple[frozenset[str], ...] = ()
    denied_models: frozenset[str] = frozenset()
    allows_priority: bool = False  # the plan has the service tier "priority"
    tier: str | None = None  # of every request, whatever it asks for
    semantic_cache: str = "off"  # Organization.semantic_cache and its two terms
    semantic_cache_ttl_s: int = 0
    semantic_cache_threshold: float | None = None
    answers_kept_days: int = 0  # Organization.answers_kept_days

    @property
    def is_held_to_models(self) -> bool:
        return bool(self.denied_models or self.allowed_models)

    def may_use(self, *names: str) -> bool:
        """Whether key and project allow a model that has these public names."""
        return self.denied_models.isdisjoint(names) and not any(
            allowed.isdisjoint(names) for allowed in self.allowed_models
        )

    def may(self, scope: str) -> bool:
        return self.kind != "admin" and (not self.scopes or scope in self.scopes)


def key_of(api_key: int) -> int | None:
    """The key that usage names; None for a person's."""
    return api_key if api_key > 0 else None
