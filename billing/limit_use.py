"""How close an organization is to its limits, sums that admission does not know included."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from django.db.models import F, Q, Sum

from billing.models import UsageEvent
from tenants import limit_use
from tenants.admission.kinds import MONTHLY_BUDGET, MONTHLY_TOKENS, PREPAID_CREDIT
from tenants.limit_use import LimitReport, LimitUse, SubjectUse
from tenants.models import Organization

# What sets a subject apart from its organization: its own fields of UsageEvent.
Names = tuple[str, ...]
Spent = dict[int, int]  # by place in KINDS
_SUMS = (MONTHLY_TOKENS, MONTHLY_BUDGET, PREPAID_CREDIT)


def get_limit_report(organization: Organization, *, with_parts: bool = True) -> LimitReport:
    """As ``tenants.limit_use``; what Redis does not know of a sum is read from what was recorded,
    without what is held for requests in flight. One statement a kind of subject."""
    report = limit_use.get_limit_report(organization, with_parts=with_parts)
    unknown: defaultdict[Names, list[SubjectUse]] = defaultdict(list)
    for subject in report.subjects:
        if any(limit.used is None and limit.place in _SUMS for limit in subject.limits):
            unknown[_names(subject)].append(subject)
    if not unknown:
        return report
    spent = {
        (names, values): sums
        for names, subjects in unknown.items()
        for values, sums in _spent(organization, names, subjects).items()
    }
    completed = (_completed(each, spent) for each in report.subjects)
    return replace(report, subjects=tuple(completed))


def _names(subject: SubjectUse) -> Names:
    return tuple(name for name in ("project", "api_key", "model") if getattr(subject, name))


def _values(subject: SubjectUse) -> tuple[Any, ...]:
    return tuple(getattr(subject, name) for name in _names(subject))


def _completed(
    subject: SubjectUse, spent: dict[tuple[Names, tuple[Any, ...]], Spent]
) -> SubjectUse:
    sums = spent.get((_names(subject), _values(subject)), dict.fromkeys(_SUMS, 0))
    return replace(subject, limits=tuple(_with_sum(limit, sums) for limit in subject.limits))


def _with_sum(limit: LimitUse, sums: Spent) -> LimitUse:
    if limit.used is not None or limit.place not in _SUMS:
        return limit
    return replace(limit, used=sums[limit.place])


def _spent(
    organization: Organization, names: Names, subjects: Sequence[SubjectUse]
) -> dict[tuple[Any, ...], Spent]:
    month = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    needs_life = any(limit.place == PREPAID_CREDIT for s in subjects for limit in s.limits)
    events = UsageEvent.objects.filter(organization=organization)
    if not needs_life:
        events = events.filter(started_at__gte=month)
    for name in names:
        events = events.filter(**{f"{name}__in": {getattr(each, name) for each in subjects}})
    this_month = Q(started_at__gte=month)
    rows: Any = (
        events.order_by()
        .values("organization", *names)
        .annotate(
            tokens=Sum(F("prompt_tokens") + F("completion_tokens"), filter=this_month, default=0),
            micros=Sum("cost_micros", filter=this_month, default=0),
            life=Sum("cost_micros", default=0),
        )
    )
    return {
        tuple(row[name] for name in names): {
            MONTHLY_TOKENS: int(row["tokens"]),
            MONTHLY_BUDGET: int(row["micros"]),
            PREPAID_CREDIT: int(row["life"]),
        }
        for row in rows
    }
