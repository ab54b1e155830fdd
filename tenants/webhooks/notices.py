"""Mail to the people of an endpoint that was disabled because nothing reached it."""

from __future__ import annotations

from django.db.models import QuerySet
from django.utils import timezone

from tenants import audit, jobs, mail
from tenants.jobs import HeldJob
from tenants.models import Job, Membership, Role, WebhookEndpoint

DISABLED_MAIL = "mail.webhook_disabled"
_MOST_TOLD = 20

_DISABLED = """\
The webhook endpoint of {organization} at

{url}

was disabled: {why}. Events are not sent to it any more, and what waited for it is not sent either.

See what it answered, repair it and enable it again:
{link}
"""
_GONE = "it answered that it is gone (410)"
_FAILED = "for {days} days no delivery to it succeeded"


def tell_disabled(endpoint: WebhookEndpoint, *, is_gone: bool) -> None:
    """In the transaction that disables it."""
    since = endpoint.failing_since.isoformat() if endpoint.failing_since else None
    people = [member.user_id for member in _managers(endpoint)[:_MOST_TOLD]]
    audit.record_event(
        acting_user=None,
        action="webhook.disabled_by_failures",
        object_type="webhook",
        object_id=endpoint.public_id,
        organization=endpoint.organization,
        before={"failing_since": since, "failures": endpoint.failures},
        after={"is_gone": is_gone, "told": len(people)},
    )
    for user in people:
        jobs.enqueue(
            DISABLED_MAIL,
            f"{endpoint.public_id}:{user}:{timezone.now():%Y%m%dT%H%M%S}",
            organization=endpoint.organization,
            payload={"endpoint": endpoint.pk, "user": user, "is_gone": is_gone},
            priority=Job.Priority.URGENT,
            max_attempts=mail.ATTEMPTS,
        )


def _managers(endpoint: WebhookEndpoint) -> QuerySet[Membership]:
    return Membership.objects.filter(
        organization=endpoint.organization_id,
        role__in=(Role.OWNER, Role.ADMIN),
        user__is_active=True,
    ).order_by("pk")


def deliver_disabled(job: HeldJob) -> None:
    """Nothing, if it was deleted or enabled, or the person has left, meanwhile."""
    endpoint = (
        WebhookEndpoint.objects.select_related("organization")
        .filter(pk=job.payload["endpoint"], disabled=WebhookEndpoint.Disabled.BY_FAILURES)
        .first()
    )
    if endpoint is None:
        return
    member = _managers(endpoint).select_related("user").filter(user=job.payload["user"]).first()
    if member is None:
        return
    since = endpoint.failing_since or timezone.now()
    days = max(1, (timezone.now() - since).days)
    text = _DISABLED.format(
        organization=endpoint.organization.name,
        url=endpoint.url,
        why=_GONE if job.payload["is_gone"] else _FAILED.format(days=days),
        link=mail.page_link(endpoint.organization, f"settings/webhooks/{endpoint.public_id}/"),
    )
    subject = f"A webhook of {endpoint.organization.name} was disabled"
    mail.deliver(job, subject, text, to=member.user.email)
