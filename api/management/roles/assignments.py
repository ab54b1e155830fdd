"""Custom roles given to people and groups, everywhere or in one project.

``/v1/organization/{users,groups}/{id}/roles`` and the same under ``/v1/projects/{id}``.
"""

from __future__ import annotations

from api.management.groups.wire import Group
from api.management.operation import operation
from api.management.roles.views import project_of
from api.management.roles.wire import AssignedRole, GivenRole, GroupRole, Role, UserRole
from api.management.users.wire import User
from api.management.view import ManagementView
from api.management.wire import LongQuery, Page, Removed, page_of
from tenants import access, listings
from tenants.actions import assign_role, unassign_role
from tenants.models import Group as GroupRow
from tenants.models import RoleAssignment
from tenants.models import User as UserRow
from tenants.pages import list_page

ROLE = "role__public_id"


class UserRoles(ManagementView):
    @operation("member.read", query=LongQuery, answer=Page[AssignedRole])
    def get(
        self, user_id: str, query: LongQuery, project_id: str | None = None
    ) -> Page[AssignedRole]:
        """List the custom roles that a member was given directly."""
        user = access.access_member(self.organization, user_id).user
        return _listed(self, user, project_id, query)

    @operation("role.manage", body=GivenRole, answer=UserRole)
    def post(self, user_id: str, body: GivenRole, project_id: str | None = None) -> UserRole:
        """Give a member a role that the asking key has all of."""
        member = access.access_member(self.organization, user_id)
        given = _give(self, member.user, body.role_id, project_id)
        return UserRole(role=Role.of(given.role), user=User.of(member))


class OneUserRole(ManagementView):
    @operation("member.read", answer=AssignedRole)
    def get(self, user_id: str, role_id: str, project_id: str | None = None) -> AssignedRole:
        """Get a role that a member was given directly."""
        user = access.access_member(self.organization, user_id).user
        return AssignedRole.of(_found(self, user, role_id, project_id))

    @operation("role.manage", answer=Removed)
    def delete(self, user_id: str, role_id: str, project_id: str | None = None) -> Removed:
        """Take a role from a member."""
        user = access.access_member(self.organization, user_id).user
        unassign_role(_found(self, user, role_id, project_id), actor=self.actor)
        return Removed(object="user.role.deleted")


class GroupRoles(ManagementView):
    @operation("member.read", query=LongQuery, answer=Page[AssignedRole])
    def get(
        self, group_id: str, query: LongQuery, project_id: str | None = None
    ) -> Page[AssignedRole]:
        """List a group's custom roles."""
        group = access.access_group(self.organization, group_id)
        return _listed(self, group, project_id, query)

    @operation("role.manage", body=GivenRole, answer=GroupRole)
    def post(self, group_id: str, body: GivenRole, project_id: str | None = None) -> GroupRole:
        """Give a group a role that the asking key has all of."""
        group = access.access_group(self.organization, group_id)
        given = _give(self, group, body.role_id, project_id)
        return GroupRole(role=Role.of(given.role), group=Group.of(group))


class OneGroupRole(ManagementView):
    @operation("member.read", answer=AssignedRole)
    def get(self, group_id: str, role_id: str, project_id: str | None = None) -> AssignedRole:
        """Get a group's role."""
        group = access.access_group(self.organization, group_id)
        return AssignedRole.of(_found(self, group, role_id, project_id))

    @operation("role.manage", answer=Removed)
    def delete(self, group_id: str, role_id: str, project_id: str | None = None) -> Removed:
        """Take a role from a group."""
        group = access.access_group(self.organization, group_id)
        unassign_role(_found(self, group, role_id, project_id), actor=self.actor)
        return Removed(object="group.role.deleted")


class ProjectUserRoles(UserRoles):
    pass


class OneProjectUserRole(OneUserRole):
    pass


class ProjectGroupRoles(GroupRoles):
    pass


class OneProjectGroupRole(OneGroupRole):
    pass


def _listed(
    view: ManagementView, to: UserRow | GroupRow, project_id: str | None, query: LongQuery
) -> Page[AssignedRole]:
    rows = listings.assignments(view.organization, to, project_of(view, project_id))
    found = list_page(rows, query.cursor, name=ROLE)
    return page_of(found, [AssignedRole.of(row) for row in found.rows])


def _give(
    view: ManagementView, to: UserRow | GroupRow, role_id: str, project_id: str | None
) -> RoleAssignment:
    project = project_of(view, project_id)
    role = access.access_assignable_role(view.organization, role_id, project)
    return assign_role(role, to, project=project, actor=view.actor)


def _found(
    view: ManagementView, to: UserRow | GroupRow, role_id: str, project_id: str | None
) -> RoleAssignment:
    rows = listings.assignments(view.organization, to, project_of(view, project_id))
    return access.access_in(rows, role_id, "role", name=ROLE, param="role_id")
