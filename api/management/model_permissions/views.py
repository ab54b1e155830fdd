"""``/v1/organization/projects/{project_id}/model_permissions``"""

from __future__ import annotations

from api.management.model_permissions.wire import ModelPermissions, NewModelPermissions
from api.management.operation import operation
from api.management.view import ManagementView
from api.management.wire import Removed
from tenants import access
from tenants.actions import update_project
from tenants.errors import InvalidInput


class ProjectModelPermissions(ManagementView):
    @operation("project.read", answer=ModelPermissions)
    def get(self, project_id: str) -> ModelPermissions:
        """Get the models that a project may, or may not, use."""
        return ModelPermissions.of(
            access.access_project(self.organization, project_id, with_archived=True)
        )

    @operation("project.manage", body=NewModelPermissions, answer=ModelPermissions)
    def post(self, project_id: str, body: NewModelPermissions) -> ModelPermissions:
        """Allow a project these models only, or all but these."""
        project = access.access_project(self.organization, project_id)
        is_allowing = body.mode == "allow_list"
        if is_allowing and not body.model_ids:
            raise InvalidInput(
                "A list that allows nothing is refused; archive the project instead.",
                param="model_ids",
            )
        changes = {
            "allowed_models": body.model_ids if is_allowing else [],
            "denied_models": [] if is_allowing else body.model_ids,
        }
        return ModelPermissions.of(update_project(project, changes, acting_user=None))

    @operation("project.manage", answer=Removed)
    def delete(self, project_id: str) -> Removed:
        """Allow a project every model."""
        project = access.access_project(self.organization, project_id)
        update_project(project, {"allowed_models": [], "denied_models": []}, acting_user=None)
        return Removed(object="project.model_permissions.deleted")
