"""Mail that tenants cause."""

from __future__ import annotations

from django.conf import settings
from django.core.mail import EmailMessage

from tenants.models import Invitation

_INVITATION = """\
{inviter} invites you to join {organization} on Sluice.

Accept the invitation until {until:%d %B %Y}:
{link}

The link works once, and for this address only. If you did not expect it, ignore it.
"""


def send_invitation(invitation: Invitation, token: str) -> None:
    """Mail the link, once the invitation is committed: it must work when it arrives.

    Raises what mail servers do, SMTPException and OSError.
    """
    organization = invitation.organization.name
    inviter = invitation.invited_by
    text = _INVITATION.format(
        inviter=(inviter.name or inviter.email) if inviter else organization,
        organization=organization,
        until=invitation.expires_at,
        link=invitation_link(token),
    )
    EmailMessage(f"Invitation to {organization}", text, to=[invitation.email]).send()


def invitation_link(token: str) -> str:
    """Where the token is accepted: a page of the portal."""
    return f"{settings.SLUICE_URL.rstrip('/')}/invitations/{token}/"
