"""``/v1/organization/invites``"""

from __future__ import annotations

from api.management.invites.wire import Invite, NewInvite
from api.management.operation import operation
from api.management.users.wire import role_named
from api.management.view import ManagementView
from api.management.wire import Deleted, ListQuery, Page, page_of
from tenants import access, listings
from tenants.actions import invite_member, revoke_invitation
from tenants.errors import InvalidInput
from tenants.mail import send_invitation
from tenants.models import Invitation
from tenants.pages import list_page


class Invites(ManagementView):
    @operation("member.read", query=ListQuery, answer=Page[Invite])
    def get(self, query: ListQuery) -> Page[Invite]:
        """List invitations that were not withdrawn."""
        found = list_page(listings.invitations(self.organization), query.cursor)
        return page_of(found, [Invite.of(row) for row in found.rows])

    @operation("member.manage", body=NewInvite, answer=Invite)
    def post(self, body: NewInvite) -> Invite:
        """Invite somebody by e-mail; the link works once, for a week, for that address."""
        invitation, token = invite_member(
            self.organization,
            body.email,
            role_named(body.role),
            projects=[{"id": project.id, "role": project.role} for project in body.projects],
            actor=self.actor,
        )
        send_invitation(invitation, token)
        return Invite.of(invitation)


class OneInvite(ManagementView):
    @operation("member.read", answer=Invite)
    def get(self, invite_id: str) -> Invite:
        """Get an invitation."""
        return Invite.of(_found(self, invite_id))

    @operation("member.manage", answer=Deleted)
    def delete(self, invite_id: str) -> Deleted:
        """Withdraw an invitation that was not accepted."""
        invitation = revoke_invitation(_found(self, invite_id), acting_user=None)
        if invitation.status == Invitation.Status.ACCEPTED:
            raise InvalidInput("This invitation was accepted; remove the user instead.")
        return Deleted(id=invite_id, object="organization.invite.deleted")


def _found(view: ManagementView, invite_id: str) -> Invitation:
    rows = listings.invitations(view.organization)
    return access.access_in(rows, invite_id, "invitation", param="invite_id")
