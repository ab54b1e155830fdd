"""``/v1/organization/roles`` and ``/v1/projects/{project_id}/roles``."""

from __future__ import annotations

from api.management.operation import operation
from api.management.roles.wire import NewRole, Role, RoleChange
from api.management.view import ManagementView
from api.management.wire import Deleted, LongQuery, Page, page_of
from tenants import access, listings
from tenants.actions import create_role, delete_role, update_role
from tenants.models import CustomRole, Project
from tenants.pages import list_page


class Roles(ManagementView):
    """The organization's; with a project in the path, those that it made for itself."""

    @operation("organization.read", query=LongQuery, answer=Page[Role])
    def get(self, query: LongQuery, project_id: str | None = None) -> Page[Role]:
        """List custom roles."""
        project = project_of(self, project_id)
        found = list_page(listings.custom_roles(self.organization, project), query.cursor)
        return page_of(found, [Role.of(row) for row in found.rows])

    @operation("role.manage", body=NewRole, answer=Role)
    def post(self, body: NewRole, project_id: str | None = None) -> Role:
        """Make a role of permissions that the asking key has itself."""
        role = create_role(
            self.organization,
            body.role_name,
            body.permissions,
            description=body.description or "",
            project=project_of(self, project_id),
            actor=self.actor,
        )
        return Role.of(role)


class OneRole(ManagementView):
    @operation("organization.read", answer=Role)
    def get(self, role_id: str, project_id: str | None = None) -> Role:
        """Get a custom role."""
        return Role.of(_found(self, role_id, project_id))

    @operation("role.manage", body=RoleChange, answer=Role)
    def post(self, role_id: str, body: RoleChange, project_id: str | None = None) -> Role:
        """Change a role; whoever has it has it changed at once."""
        role = update_role(
            _found(self, role_id, project_id),
            name=body.role_name,
            given=body.permissions,
            description=body.description,
            actor=self.actor,
        )
        return Role.of(role)

    @operation("role.manage", answer=Deleted)
    def delete(self, role_id: str, project_id: str | None = None) -> Deleted:
        """Delete a role; everybody who has it loses it."""
        delete_role(_found(self, role_id, project_id), actor=self.actor)
        return Deleted(id=role_id, object="role.deleted")


class ProjectRoles(Roles):
    pass


class OneProjectRole(OneRole):
    pass


def project_of(view: ManagementView, project_id: str | None) -> Project | None:
    return None if project_id is None else access.access_project(view.organization, project_id)


def _found(view: ManagementView, role_id: str, project_id: str | None) -> CustomRole:
    project = project_of(view, project_id)
    return access.access_custom_role(view.organization, role_id, project)
