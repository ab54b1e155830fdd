"""``/v1/organization/users``"""

from __future__ import annotations

from api.management.operation import operation
from api.management.unsupported import refuse_fields
from api.management.users.wire import User, UserChange, UserQuery, role_named
from api.management.view import ManagementView
from api.management.wire import Deleted, Page, page_of
from tenants import access, listings
from tenants.actions import assign_role, change_member_role, remove_member
from tenants.errors import InvalidInput
from tenants.pages import list_page


class Users(ManagementView):
    @operation("member.read", query=UserQuery, answer=Page[User])
    def get(self, query: UserQuery) -> Page[User]:
        """List members."""
        found = list_page(
            listings.members(self.organization, query.emails),
            query.cursor,
            among=listings.members(self.organization),
            name="user__public_id",
        )
        return page_of(found, [User.of(row) for row in found.rows])


class OneUser(ManagementView):
    @operation("member.read", answer=User)
    def get(self, user_id: str) -> User:
        """Get a member."""
        return User.of(access.access_member(self.organization, user_id))

    @operation("member.manage", body=UserChange, answer=User)
    def post(self, user_id: str, body: UserChange) -> User:
        """Change a member's role, or give them a custom role."""
        membership = access.access_member(self.organization, user_id)
        refuse_fields(body, "developer_persona", "technical_level")
        if (body.role is None) == (body.role_id is None):
            raise InvalidInput("Give either role or role_id.", param="role")
        if body.role is not None:
            change_member_role(membership, role_named(body.role), actor=self.actor)
        else:
            self.actor.check("role.manage")
            role = access.access_custom_role(self.organization, body.role_id or "")
            assign_role(role, membership.user, actor=self.actor)
        return User.of(membership)

    @operation("member.manage", answer=Deleted)
    def delete(self, user_id: str) -> Deleted:
        """Remove a member, with their roles and the keys that they made."""
        remove_member(access.access_member(self.organization, user_id), actor=self.actor)
        return Deleted(id=user_id, object="organization.user.deleted")
