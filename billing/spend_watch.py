"""Looks at a month's costs and tells, once, whom an alert or a budget concerns.

Costs are those that the ledger has: some seconds behind admission, which refuses by what it
reserved. So ``budget.exceeded`` says that the recorded costs reached the budget; requests
may have been refused shortly before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from django.db import transaction
from django.db.models import Exists, OuterRef
from django.utils import timezone

from billing.models import SpendAlert, SpendNotice, UsageEvent
from billing.selectors import spent_this_month
from tenants import jobs, mail, webhooks
from tenants.jobs import HeldJob
from tenants.models import Job, Organization, Project, WebhookEndpoint
from tenants.principals import monthly_budget_of

SPEND_ALERT_MAIL = "mail.spend_alert"
# Of one organization: thresholds can be changed as often as somebody likes.
MOST_MAILS_A_DAY = 200
# What nobody used since cannot have grown: a look costs a sum over the month.
_USED_WITHIN = timedelta(hours=1)


@dataclass(frozen=True)
class _Watched:
    """A limit of one subject: an alert's threshold or, without an alert, a budget."""

    organization: Organization
    project: Project | None
    alert: SpendAlert | None
    limit_micros: int


def check_spend() -> int:
    """Tell what is to be told now; returns how much that was. Everybody's, so only for
    staff's scope."""
    month = datetime.now(UTC).date().replace(day=1)
    spent: dict[tuple[int, int | None], int] = {}
    told = 0
    for watched in (*_alerts(month), *_budgets()):
        subject = (watched.organization.pk, watched.project.pk if watched.project else None)
        if subject not in spent:
            spent[subject] = spent_this_month(watched.organization, watched.project)
        if spent[subject] >= watched.limit_micros:
            told += _tell(watched, spent[subject], month)
    return told


def _alerts(month: date) -> Iterator[_Watched]:
    """Those that have not told this month, of organizations that use anything."""
    told = SpendNotice.objects.filter(
        alert=OuterRef("pk"), month=month, limit_micros=OuterRef("threshold_micros")
    )
    waiting = SpendAlert.objects.filter(_is_used("organization"), ~Exists(told))
    for alert in waiting.select_related("organization", "project").order_by("pk"):
        yield _Watched(alert.organization, alert.project, alert, alert.threshold_micros)


def _budgets() -> Iterator[_Watched]:
    """Of organizations with an endpoint that wants to know; mail tells of alerts only."""
    wanting = WebhookEndpoint.objects.filter(disabled="", events__contains=["budget.exceeded"])
    organizations = Organization.objects.filter(
        _is_used("pk"), pk__in=wanting.values("organization")
    )
    for organization in organizations.select_related("plan").order_by("pk"):
        budget = monthly_budget_of(organization)
        if budget is not None:
            yield _Watched(organization, None, None, budget)
        projects = Project.objects.filter(organization=organization, archived_at=None)
        for project in projects.exclude(monthly_budget_micros=None).order_by("pk"):
            yield _Watched(organization, project, None, project.monthly_budget_micros or 0)


def _is_used(organization: str) -> Exists:
    since = timezone.now() - _USED_WITHIN
    return Exists(
        UsageEvent.objects.filter(organization=OuterRef(organization), started_at__gte=since)
    )


@transaction.atomic
def _tell(watched: _Watched, spent_micros: int, month: date) -> bool:
    # Of two looks at once the second finds the first one's row.
    notice, is_new = SpendNotice.objects.get_or_create(
        organization=watched.organization,
        project=watched.project,
        alert=watched.alert,
        month=month,
        limit_micros=watched.limit_micros,
        defaults={"spent_micros": spent_micros},
    )
    if not is_new:
        return False
    data = {
        "id": watched.alert.public_id if watched.alert else watched.organization.public_id,
        "project_id": watched.project.public_id if watched.project else None,
        "month": f"{month:%Y-%m}",
        "limit_micros": watched.limit_micros,
        "spent_micros": spent_micros,
    }
    kind = "budget.threshold_reached" if watched.alert else "budget.exceeded"
    project = watched.project.pk if watched.project else None
    webhooks.tell(watched.organization, kind, data, project=project)
    if watched.alert:
        _mail(notice, watched.alert)
    return True


def _mail(notice: SpendNotice, alert: SpendAlert) -> None:
    day = timezone.now() - timedelta(days=1)
    sent = Job.objects.filter(
        organization=alert.organization, kind=SPEND_ALERT_MAIL, created_at__gte=day
    ).count()
    for number in range(len(alert.recipients[: max(0, MOST_MAILS_A_DAY - sent)])):
        jobs.enqueue(
            SPEND_ALERT_MAIL,
            f"{notice.pk}:{number}",
            organization=alert.organization,
            project=alert.project,
            payload={"notice": notice.pk, "recipient": number},
            priority=Job.Priority.URGENT,
            max_attempts=mail.ATTEMPTS,
        )


_TEXT = """\
{subject} of {organization} has cost {spent} this month ({month:%B %Y}), which is at or above the
threshold of {limit} that an alert was set to. Nothing is refused because of an alert; a spend
limit refuses.

Usage:
{link}
"""


def deliver_alert(job: HeldJob) -> None:
    """Nothing, if the alert was removed meanwhile, or has fewer recipients."""
    found = SpendNotice.objects.select_related("organization", "project", "alert")
    notice = found.filter(pk=job.payload["notice"]).first()
    number = job.payload["recipient"]
    if notice is None or notice.alert is None or number >= len(notice.alert.recipients):
        return
    subject = f"The project {notice.project.name}" if notice.project else "The usage"
    text = _TEXT.format(
        subject=subject,
        organization=notice.organization.name,
        month=notice.month,
        spent=_dollars(notice.spent_micros),
        limit=_dollars(notice.limit_micros),
        link=mail.page_link(notice.organization, "usage/"),
    )
    title = f"{notice.organization.name} has spent {_dollars(notice.limit_micros)} this month"
    prefix = f"{notice.alert.subject_prefix} " if notice.alert.subject_prefix else ""
    mail.deliver(job, prefix + title, text, to=notice.alert.recipients[number])


def _dollars(micros: int) -> str:
    return f"${micros // 1_000_000:,}.{micros % 1_000_000 // 10_000:02d}"
