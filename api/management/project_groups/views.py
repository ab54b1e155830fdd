"""``/v1/organization/projects/{project_id}/groups``"""

from __future__ import annotations

from api.management.operation import operation
from api.management.project_groups.wire import NewProjectGroup, ProjectGroup, ProjectGroupQuery
from api.management.view import ManagementView
from api.management.wire import OrderedQuery, Page, Removed, page_of
from tenants import access, listings
from tenants.actions import assign_role, unassign_roles_in_project
from tenants.models import Group, Project
from tenants.pages import list_page


class ProjectGroups(ManagementView):
    @operation("project.read", query=OrderedQuery, answer=Page[ProjectGroup])
    def get(self, project_id: str, query: OrderedQuery) -> Page[ProjectGroup]:
        """List the groups that have a role in a project."""
        project = access.access_project(self.organization, project_id)
        found = list_page(
            listings.project_groups(project),
            query.cursor,
            among=listings.groups(self.organization),
        )
        return page_of(found, [ProjectGroup.of(row, project) for row in found.rows])

    @operation("role.manage", body=NewProjectGroup, answer=ProjectGroup)
    def post(self, project_id: str, body: NewProjectGroup) -> ProjectGroup:
        """Give a group a role in a project."""
        project = access.access_project(self.organization, project_id)
        group = access.access_group(self.organization, body.group_id)
        role = access.access_assignable_role(self.organization, body.role, project)
        assign_role(role, group, project=project, actor=self.actor)
        return ProjectGroup.of(_found(project, body.group_id), project)


class OneProjectGroup(ManagementView):
    @operation("project.read", query=ProjectGroupQuery, answer=ProjectGroup)
    def get(self, project_id: str, group_id: str, query: ProjectGroupQuery) -> ProjectGroup:
        """Get a group that has a role in a project."""
        project = access.access_project(self.organization, project_id)
        return ProjectGroup.of(_found(project, group_id), project)

    @operation("role.manage", answer=Removed)
    def delete(self, project_id: str, group_id: str) -> Removed:
        """Take from a group every role that it has in a project."""
        project = access.access_project(self.organization, project_id)
        unassign_roles_in_project(_found(project, group_id), project, actor=self.actor)
        return Removed(object="project.group.deleted")


def _found(project: Project, group_id: str) -> Group:
    groups = listings.project_groups(project)
    return access.access_in(groups, group_id, "group", param="group_id")
