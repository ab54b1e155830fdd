"""What the document says of one address beside what its types say."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

# Codes of errors, by what a request goes through (``api.document.errors``).
OF_KEYS = (
    "invalid_api_key", "organization_suspended", "insufficient_permissions", "ip_not_authorized",
    "service_unavailable", "model_unavailable", (500, None),
)  # fmt: skip
OF_VALUES = ("invalid_type", "invalid_value", "unknown_parameter", "unsupported_parameter")
OF_BODIES = (
    (400, None), *OF_VALUES, "missing_required_parameter", (408, "request_timeout"),
    "request_too_large", "unsupported_content_type",
)  # fmt: skip
OF_LIMITS = ("rate_limit_exceeded", "insufficient_quota")
OF_RUNS = (
    *OF_LIMITS, "model_not_found", "context_length_exceeded", "content_policy_violation",
    "request_quarantined", "overloaded", "engine_error", (504, "request_timeout"),
)  # fmt: skip
OF_KEPT = (
    "request_in_flight", "idempotent_answer_too_large", "idempotency_key_reused",
    "idempotency_storage_full", "invalid_value",
)  # fmt: skip
OF_FILES = ("storage_unavailable",)

Codes = tuple[str | tuple[int, str | None], ...]


@dataclass(frozen=True)
class Described:
    """``answer``, ``events`` and ``body`` are types; several answers or events are one of them."""

    tag: str
    summary: str
    answer: Any = None
    body: Any = None
    query: Any = None
    events: tuple[Any, ...] = ()  # of a stream, each one's data
    example: dict[str, Any] | None = None  # a body that works as it is
    errors: Codes = ()
    note: str = ""
    media_type: str = "application/json"  # of the body
    answer_type: str = "application/json"
    is_anthropic: bool = False
    may_be_anthropic: bool = False  # to whoever sends anthropic-version
    is_kept: bool = False  # an Idempotency-Key is heeded
    is_run: bool = False  # an engine works for it: headers of ours, limits
    headers: tuple[str, ...] = field(default=())  # of the request, by name
