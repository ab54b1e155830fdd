"""``/v1/organization/projects``"""

from __future__ import annotations

from api.management.limits import given
from api.management.operation import operation
from api.management.projects.wire import NewProject, Project, ProjectChange, ProjectQuery
from api.management.unsupported import refuse_fields
from api.management.view import ManagementView
from api.management.wire import Empty, Page, page_of
from tenants import access, listings
from tenants.actions import archive_project, create_project, update_project
from tenants.pages import list_page


class Projects(ManagementView):
    @operation("project.read", query=ProjectQuery, answer=Page[Project])
    def get(self, query: ProjectQuery) -> Page[Project]:
        """List projects, oldest first."""
        found = list_page(
            listings.projects(self.organization, with_archived=query.include_archived),
            query.cursor,
            among=listings.projects(self.organization, with_archived=True),
        )
        return page_of(found, [Project.of(row) for row in found.rows])

    @operation("project.create", body=NewProject, answer=Project)
    def post(self, body: NewProject) -> Project:
        """Create a project."""
        refuse_fields(body, "geography", "residency", "external_key_id")
        if limits := given(body.limits):
            self.actor.check("limit.manage")
        project = create_project(self.organization, body.name, limits=limits, acting_user=None)
        return Project.of(project)


class OneProject(ManagementView):
    @operation("project.read", answer=Project)
    def get(self, project_id: str) -> Project:
        """Get a project, also an archived one."""
        return Project.of(access.access_project(self.organization, project_id, with_archived=True))

    @operation("project.manage", body=ProjectChange, answer=Project)
    def post(self, project_id: str, body: ProjectChange) -> Project:
        """Change a project's name or limits."""
        project = access.access_project(self.organization, project_id)
        refuse_fields(body, "geography", "external_key_id")
        changes = given(body.limits)
        if changes:
            self.actor.check("limit.manage", project)
        if body.name is not None:
            changes["name"] = body.name
        return Project.of(update_project(project, changes, acting_user=None))


class ArchivedProject(ManagementView):
    @operation("project.manage", body=Empty, answer=Project)
    def post(self, project_id: str, body: Empty) -> Project:
        """Archive a project: its keys are refused from now on, its usage stays."""
        project = access.access_project(self.organization, project_id, with_archived=True)
        return Project.of(archive_project(project, acting_user=None))
