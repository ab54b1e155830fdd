"""Whether a usage report can be recorded: the checks before the ledger.

Reports arrive from our own processes, but through Redis and across versions, so
one that makes no sense is set aside (``RejectedReport``) and never blocks the
batch it came with.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from billing.usage import UsageReport
from tenants.models import ApiKey, Organization, Project

EARLIEST = datetime(2020, 1, 1, tzinfo=UTC).timestamp()
# A gateway's clock may run ahead; a whole day ahead is not a clock any more.
MAX_CLOCK_AHEAD_S = 86_400.0
MAX_ID = 2**63 - 1
Id = Annotated[int, Meta(gt=0, le=MAX_ID)]
# Ten times the longest context window on the market; a larger count is a broken counter.
MAX_TOKENS = 100_000_000
Tokens = Annotated[int, Meta(ge=0, le=MAX_TOKENS)]
Milliseconds = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Name40 = Annotated[str, Meta(min_length=1, max_length=40)]
Flags = Annotated[list[Annotated[str, Meta(max_length=60)]], Meta(max_length=32)]


class _Bounds(msgspec.Struct):
    """``UsageReport`` with the bounds of its fields; msgspec holds them in a microsecond.

    The choices are those of ``UsageEvent``; a test holds the two together.
    """

    request_id: Name40
    organization: Id
    project: Id
    api_key: Id | None
    model: Annotated[str, Meta(min_length=1, max_length=120)]
    endpoint: Name40
    status: Literal["completed", "cancelled", "failed", "blocked"]
    source: Literal["gateway", "worker"]
    prompt_tokens: Tokens
    cached_tokens: Tokens
    completion_tokens: Tokens
    started_at: float
    time_to_first_token_ms: Milliseconds | None
    duration_ms: Milliseconds
    replica: Annotated[str, Meta(max_length=80)]
    cache_hit: bool
    flags: Flags
    engine_us: Annotated[int, Meta(ge=0, le=MAX_ID)]
    tier: Literal["standard", "priority", "flex", "batch"]


@dataclass(frozen=True)
class KnownTenants:
    """Which of a batch's organizations exist, and who owns its projects and keys."""

    organizations: frozenset[int]
    project_owner: dict[int, int]
    key_owner: dict[int, int]


def get_known_tenants(reports: Iterable[UsageReport]) -> KnownTenants:
    """Three queries for the whole batch; call it with reports that passed ``field_fault``."""
    reports = list(reports)
    keys = {report.api_key for report in reports if report.api_key is not None}
    organizations = Organization.objects.filter(pk__in={r.organization for r in reports})
    projects = Project.objects.filter(pk__in={r.project for r in reports})
    return KnownTenants(
        organizations=frozenset(organizations.values_list("pk", flat=True)),
        project_owner=dict(projects.values_list("pk", "organization_id")),
        key_owner=dict(ApiKey.objects.filter(pk__in=keys).values_list("pk", "organization_id")),
    )


def field_fault(report: UsageReport, now: float) -> str | None:
    """What is wrong with the report by itself at ``now`` (Unix seconds), in words, or None."""
    try:
        msgspec.convert(report, _Bounds, from_attributes=True)
    except msgspec.ValidationError as error:
        return str(error)
    if report.cached_tokens > report.prompt_tokens:
        return "cached_tokens exceed prompt_tokens"
    # Comparisons with NaN are false, so NaN is refused too.
    if not EARLIEST <= report.started_at <= now + MAX_CLOCK_AHEAD_S:
        return "started_at is not a plausible time"
    return _text_fault(report)


def owner_fault(report: UsageReport, known: KnownTenants) -> str | None:
    """What is wrong with whom the report names, in words, or None."""
    if report.organization not in known.organizations:
        return f"unknown organization {report.organization}"
    if known.project_owner.get(report.project) != report.organization:
        return f"project {report.project} is not of organization {report.organization}"
    if report.api_key is not None and known.key_owner.get(report.api_key) != report.organization:
        return f"API key {report.api_key} is not of organization {report.organization}"
    return None


def _text_fault(report: UsageReport) -> str | None:
    """PostgreSQL's text holds neither NUL nor lone surrogates."""
    text = report.request_id + report.model + report.endpoint + report.replica
    if report.flags:
        text += "".join(report.flags)
    # Neither of the two is printable, and almost every report is all that.
    if text.isprintable() or ("\0" not in text and _is_encodable(text)):
        return None
    return "text holds a character that PostgreSQL refuses"


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
