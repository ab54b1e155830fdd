"""Mail that tenants cause: enqueued in the transaction of its cause, sent by a job.

A job sends at least once. A worker that dies between the mail server's answer and the
job's end sends the mail again, with the same ``Message-ID``, by which servers and
mailboxes that look for doubles know it; SMTP offers no more than that.
"""

from __future__ import annotations

from smtplib import SMTPRecipientsRefused
from urllib.parse import urlsplit

from django.conf import settings
from django.core.mail import EmailMessage

from tenants import jobs
from tenants.errors import InvalidInput
from tenants.jobs import HeldJob
from tenants.models import ApiKey, Invitation, Job, Organization

INVITATION_MAIL = "mail.invitation"
# About a quarter of an hour of pauses: greylisting and a mail server's restart.
ATTEMPTS = 9

_INVITATION = """\
{inviter} invites you to join {organization} on Sluice.

Accept the invitation until {until:%d %B %Y}:
{link}

The link works once, and for this address only. If you did not expect it, ignore it.
"""


def send_invitation(invitation: Invitation, token: str) -> Job:
    """Have the link mailed, best in the transaction of the invitation. Its secret, whose
    digest alone is stored elsewhere, stays encrypted with the job until it was sent."""
    return jobs.enqueue(
        INVITATION_MAIL,
        invitation.public_id,
        organization=invitation.organization,
        payload={"invitation": invitation.pk},
        secret=token,
        priority=Job.Priority.URGENT,
        max_attempts=ATTEMPTS,
        created_by=invitation.invited_by,
    )


def deliver_invitation(job: HeldJob) -> None:
    """Nothing, if the invitation was withdrawn, replaced or accepted meanwhile."""
    found = Invitation.objects.select_related("organization", "invited_by")
    invitation = found.filter(pk=job.payload["invitation"]).first()
    if invitation is None or invitation.status != Invitation.Status.PENDING:
        return
    organization = invitation.organization.name
    inviter = invitation.invited_by
    text = _INVITATION.format(
        inviter=(inviter.name or inviter.email) if inviter else organization,
        organization=organization,
        until=invitation.expires_at,
        link=invitation_link(jobs.unseal(job)),
    )
    deliver(job, f"Invitation to {organization}", text, to=invitation.email)


def deliver(job: HeldJob, subject: str, text: str, *, to: str) -> None:
    """Raises what mail servers do, SMTPException and OSError, if it may be tried again."""
    host = urlsplit(settings.SLUICE_URL).hostname or "sluice"
    headers = {"Message-ID": f"<{job.public_id}@{host}>"}
    try:
        EmailMessage(" ".join(subject.split()), text, to=[to], headers=headers).send()
    except SMTPRecipientsRefused as error:
        if all(code >= 500 for code, _ in error.recipients.values()):
            raise InvalidInput("The mail server refuses the address for good.") from error
        raise


def invitation_link(token: str) -> str:
    """Where the token is accepted: a page of the portal."""
    return f"{settings.SLUICE_URL.rstrip('/')}/invitations/{token}/"


def key_link(key: ApiKey) -> str:
    """The key's page in the portal; admin keys have one page for all."""
    page = "settings/admin-keys/" if key.kind == ApiKey.Kind.ADMIN else f"keys/{key.public_id}/"
    return page_link(key.organization, page)


def page_link(organization: Organization, page: str) -> str:
    """A page of the organization in the portal, as ``usage/``."""
    return f"{settings.SLUICE_URL.rstrip('/')}/o/{organization.public_id}/{page}"
