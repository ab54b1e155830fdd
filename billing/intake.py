"""Whether a usage report can be recorded: the checks before the ledger.

Reports arrive from our own processes, but through Redis and across versions, so
one that makes no sense is set aside (``RejectedReport``) and never blocks the
batch it came with.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from billing.models import UsageEvent
from billing.usage import UsageReport
from tenants.models import ApiKey, Organization, Project

# Ten times the longest context window on the market; a larger count is a broken counter.
MAX_TOKENS = 100_000_000
MAX_MS = 2**31 - 1
MAX_ID = 2**63 - 1
MAX_FLAGS = 32
MAX_FLAG_LENGTH = 60
EARLIEST = datetime(2020, 1, 1, tzinfo=UTC).timestamp()
# A gateway's clock may run ahead; a whole day ahead is not a clock any more.
MAX_CLOCK_AHEAD = timedelta(days=1)


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


def field_fault(report: UsageReport, now: datetime) -> str | None:
    """What is wrong with the report by itself, in words, or None."""
    return (
        _text_fault(report)
        or _number_fault(report)
        or _time_fault(report, now)
        or _choice_fault(report)
    )


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
    required = {"request_id": 40, "model": 120, "endpoint": 40}
    for name, longest in required.items():
        if not 1 <= len(getattr(report, name)) <= longest:
            return f"{name} must have 1 to {longest} characters"
    if len(report.replica) > 80:
        return "replica must have at most 80 characters"
    if len(report.flags) > MAX_FLAGS or any(len(flag) > MAX_FLAG_LENGTH for flag in report.flags):
        return f"flags must be at most {MAX_FLAGS} of at most {MAX_FLAG_LENGTH} characters"
    texts = (report.request_id, report.model, report.endpoint, report.replica, *report.flags)
    # PostgreSQL's text holds neither NUL nor lone surrogates.
    if any("\0" in text or not _is_encodable(text) for text in texts):
        return "text holds a character that PostgreSQL refuses"
    return None


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _number_fault(report: UsageReport) -> str | None:
    for name in ("organization", "project", "api_key"):
        value = getattr(report, name)
        if value is not None and not 0 < value <= MAX_ID:
            return f"{name} is not an id"
    for name in ("prompt_tokens", "cached_tokens", "completion_tokens"):
        if not 0 <= getattr(report, name) <= MAX_TOKENS:
            return f"{name} must lie between 0 and {MAX_TOKENS}"
    if report.cached_tokens > report.prompt_tokens:
        return "cached_tokens exceed prompt_tokens"
    for name in ("duration_ms", "time_to_first_token_ms"):
        value = getattr(report, name)
        if value is not None and not 0 <= value <= MAX_MS:
            return f"{name} must lie between 0 and {MAX_MS}"
    if not 0 <= report.engine_us <= MAX_ID:
        return f"engine_us must lie between 0 and {MAX_ID}"
    return None


def _time_fault(report: UsageReport, now: datetime) -> str | None:
    # Comparisons with NaN are false, so NaN is refused too.
    if not EARLIEST <= report.started_at <= (now + MAX_CLOCK_AHEAD).timestamp():
        return "started_at is not a plausible time"
    return None


# Django builds ``values`` anew at every look.
_STATUSES = frozenset(UsageEvent.Status.values)
_SOURCES = frozenset(UsageEvent.Source.values)
_TIERS = frozenset(UsageEvent.Tier.values)


def _choice_fault(report: UsageReport) -> str | None:
    if report.status not in _STATUSES:
        return "unknown status"
    if report.source not in _SOURCES:
        return "unknown source"
    if report.tier not in _TIERS:
        return "unknown tier"
    return None
