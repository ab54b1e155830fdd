"""``/v1/organization/projects/{project_id}/users``"""

from __future__ import annotations

from api.management.operation import operation
from api.management.project_users.wire import NewProjectUser, ProjectUser, ProjectUserChange
from api.management.view import ManagementView
from api.management.wire import Deleted, ListQuery, Page, page_of
from tenants import access, listings
from tenants.actions import add_project_member, change_project_member, remove_project_member
from tenants.errors import InvalidInput
from tenants.models import Membership, ProjectMembership
from tenants.pages import list_page


class ProjectUsers(ManagementView):
    @operation("member.read", query=ListQuery, answer=Page[ProjectUser])
    def get(self, project_id: str, query: ListQuery) -> Page[ProjectUser]:
        """List the people of a project."""
        project = access.access_project(self.organization, project_id)
        members = listings.project_members(project)
        found = list_page(members, query.cursor, name="user__public_id")
        return page_of(found, [ProjectUser.of(row) for row in found.rows])

    @operation("project_member.manage", body=NewProjectUser, answer=ProjectUser)
    def post(self, project_id: str, body: NewProjectUser) -> ProjectUser:
        """Give a member of the organization a role in the project."""
        project = access.access_project(self.organization, project_id)
        user = _member(self, body).user
        return ProjectUser.of(add_project_member(project, user, body.role, acting_user=None))


class OneProjectUser(ManagementView):
    @operation("member.read", answer=ProjectUser)
    def get(self, project_id: str, user_id: str) -> ProjectUser:
        """Get one of a project's people."""
        return ProjectUser.of(_found(self, project_id, user_id))

    @operation("project_member.manage", body=ProjectUserChange, answer=ProjectUser)
    def post(self, project_id: str, user_id: str, body: ProjectUserChange) -> ProjectUser:
        """Change somebody's role in the project."""
        membership = _found(self, project_id, user_id)
        return ProjectUser.of(change_project_member(membership, body.role, acting_user=None))

    @operation("project_member.manage", answer=Deleted)
    def delete(self, project_id: str, user_id: str) -> Deleted:
        """Take somebody out of the project; they stay in the organization."""
        remove_project_member(_found(self, project_id, user_id), acting_user=None)
        return Deleted(id=user_id, object="organization.project.user.deleted")


def _found(view: ManagementView, project_id: str, user_id: str) -> ProjectMembership:
    project = access.access_project(view.organization, project_id)
    members = listings.project_members(project)
    return access.access_in(members, user_id, "user", name="user__public_id", param="user_id")


def _member(view: ManagementView, body: NewProjectUser) -> Membership:
    if (body.user_id is None) == (body.email is None):
        raise InvalidInput("Give either user_id or email.", param="user_id")
    if body.user_id is not None:
        return access.access_member(view.organization, body.user_id)
    members = listings.members(view.organization)
    email = (body.email or "").lower()
    return access.access_in(members, email, "user", name="user__email", param="email")
