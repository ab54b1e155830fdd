"""The invitation that a visitor came by. Its secret leaves the address at once.

It waits encrypted in the session, so that neither a Referer, a log line, a browser's
history nor whoever reads the session's table has it.
"""

from __future__ import annotations

from django.http import HttpRequest
from django.utils.translation import gettext

from portal.pages import LAST_ORGANIZATION
from tenants import actions, scope
from tenants.actions.invitations import get_open_invitation
from tenants.encryption import Undecryptable, decrypt, encrypt
from tenants.errors import InvitationInvalid
from tenants.models import Invitation, Membership, Organization, User

SESSION_KEY = "invitation"
_PURPOSE = "invitation-link"
_KNOWN = "_invitation"


def remember(request: HttpRequest, token: str) -> None:
    """Keep the link's secret if it works; what was kept before goes in any case."""
    forget(request)
    if _open(token) is not None:
        request.session[SESSION_KEY] = encrypt(token, purpose=_PURPOSE).decode()


def forget(request: HttpRequest) -> None:
    request.session.pop(SESSION_KEY, None)
    request.__dict__.pop(_KNOWN, None)


def token_of(request: HttpRequest) -> str | None:
    stored = request.session.get(SESSION_KEY)
    if not stored:
        return None
    try:
        return decrypt(stored.encode(), purpose=_PURPOSE)
    except Undecryptable:
        return None


def invitation_of(request: HttpRequest) -> Invitation | None:
    """The invitation with its organization, as long as it is open; looked up once a request."""
    if _KNOWN not in request.__dict__:
        token = token_of(request)
        request.__dict__[_KNOWN] = _open(token) if token else None
    found: Invitation | None = request.__dict__[_KNOWN]
    return found


def accept(request: HttpRequest, user: User) -> Membership:
    """Make the user a member; InvitationInvalid if the link does not work, or not for them."""
    token = token_of(request)
    if token is None:
        raise InvitationInvalid(gettext("This invitation has expired, was used, or was withdrawn."))
    address = request.META.get("REMOTE_ADDR") or None
    membership = actions.accept_invitation(token, user=user, address=address)
    forget(request)
    with scope.for_organization(membership.organization_id):
        request.session[LAST_ORGANIZATION] = membership.organization.public_id
    return membership


def _open(token: str) -> Invitation | None:
    try:
        invitation = get_open_invitation(token)
    except InvitationInvalid:
        return None
    # Whoever has the link may know the organization's name, which is loaded here.
    with scope.for_organization(invitation.organization_id):
        invitation.organization = Organization.objects.get(pk=invitation.organization_id)
    return invitation
