"""``/v1/organization/groups``"""

from __future__ import annotations

from api.management.groups.wire import Group, GroupUser, GroupUserAdded, NamedGroup, NewGroupUser
from api.management.operation import operation
from api.management.view import ManagementView
from api.management.wire import Deleted, LongQuery, Page, Removed, page_of
from tenants import access, listings
from tenants.actions import (
    add_group_member,
    create_group,
    delete_group,
    remove_group_member,
    rename_group,
)
from tenants.models import GroupMember
from tenants.pages import list_page


class Groups(ManagementView):
    @operation("member.read", query=LongQuery, answer=Page[Group])
    def get(self, query: LongQuery) -> Page[Group]:
        """List groups."""
        found = list_page(listings.groups(self.organization), query.cursor)
        return page_of(found, [Group.of(row) for row in found.rows])

    @operation("group.manage", body=NamedGroup, answer=Group)
    def post(self, body: NamedGroup) -> Group:
        """Create a group."""
        return Group.of(create_group(self.organization, body.name, acting_user=None))


class OneGroup(ManagementView):
    @operation("member.read", answer=Group)
    def get(self, group_id: str) -> Group:
        """Get a group."""
        return Group.of(access.access_group(self.organization, group_id))

    @operation("group.manage", body=NamedGroup, answer=Group)
    def post(self, group_id: str, body: NamedGroup) -> Group:
        """Rename a group."""
        group = access.access_group(self.organization, group_id)
        return Group.of(rename_group(group, body.name, acting_user=None))

    @operation("group.manage", answer=Deleted)
    def delete(self, group_id: str) -> Deleted:
        """Delete a group; its members lose what it gave them."""
        delete_group(access.access_group(self.organization, group_id), actor=self.actor)
        return Deleted(id=group_id, object="group.deleted")


class GroupUsers(ManagementView):
    @operation("member.read", query=LongQuery, answer=Page[GroupUser])
    def get(self, group_id: str, query: LongQuery) -> Page[GroupUser]:
        """List a group's members."""
        members = listings.group_members(access.access_group(self.organization, group_id))
        found = list_page(members, query.cursor, name="user__public_id")
        return page_of(found, [GroupUser.of(row.user) for row in found.rows])

    @operation("group.manage", body=NewGroupUser, answer=GroupUserAdded)
    def post(self, group_id: str, body: NewGroupUser) -> GroupUserAdded:
        """Put a member of the organization in a group."""
        group = access.access_group(self.organization, group_id)
        user = access.access_member(self.organization, body.user_id).user
        add_group_member(group, user, actor=self.actor)
        return GroupUserAdded(group_id=group_id, user_id=body.user_id)


class OneGroupUser(ManagementView):
    @operation("member.read", answer=GroupUser)
    def get(self, group_id: str, user_id: str) -> GroupUser:
        """Get a group's member."""
        return GroupUser.of(_found(self, group_id, user_id).user)

    @operation("group.manage", answer=Removed)
    def delete(self, group_id: str, user_id: str) -> Removed:
        """Take somebody out of a group."""
        remove_group_member(_found(self, group_id, user_id), actor=self.actor)
        return Removed(object="group.user.deleted")


def _found(view: ManagementView, group_id: str, user_id: str) -> GroupMember:
    members = listings.group_members(access.access_group(view.organization, group_id))
    return access.access_in(members, user_id, "user", name="user__public_id", param="user_id")
