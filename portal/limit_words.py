"""Limits as people read them: a bar each, with what is used, left and when it comes back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from portal.templatetags.portal import micros, thousands
from tenants.limit_use import LimitReport, LimitUse, SubjectUse

LABELS: dict[str, str | Promise] = {
    "requests_per_minute": gettext_lazy("Requests a minute"),
    "requests_per_hour": gettext_lazy("Requests an hour"),
    "requests_per_day": gettext_lazy("Requests a day"),
    "tokens_per_minute": gettext_lazy("Tokens a minute"),
    "tokens_per_day": gettext_lazy("Tokens a day"),
    "concurrent_requests": gettext_lazy("Requests at the same time"),
    "monthly_tokens": gettext_lazy("Tokens this month"),
    "monthly_budget": gettext_lazy("Budget this month"),
    "prepaid_credit": gettext_lazy("Prepaid credit"),
}


@dataclass(frozen=True)
class Meter:
    label: str
    used: int | None
    limit: int
    text: str


@dataclass(frozen=True)
class Meters:
    """The limits of one subject, the tightest first where anything is used."""

    subject: SubjectUse
    meters: tuple[Meter, ...]


def meters_of(subject: SubjectUse) -> Meters:
    return Meters(subject, tuple(_meter(limit) for limit in subject.limits))


def parts_of(report: LimitReport) -> list[Meters]:
    """All but the organization as a whole, those nearest to a limit first."""
    parts = [subject for subject in report.subjects[1:] if subject.limits]
    return [meters_of(subject) for subject in sorted(parts, key=_nearness, reverse=True)]


def _nearness(subject: SubjectUse) -> float:
    return max(((each.used or 0) / max(1, each.limit) for each in subject.limits), default=0.0)


def _meter(limit: LimitUse) -> Meter:
    write: Callable[[int | None], str] = micros if limit.kind.unit == "micros" else thousands
    words = {
        "used": write(limit.used) if limit.used is not None else "",
        "limit": write(limit.limit),
    }
    if limit.used is None:
        text = _("up to %(limit)s") % words
    else:
        text = _("%(used)s of %(limit)s") % words
    return Meter(str(LABELS[limit.kind.name]), limit.used, limit.limit, text)
