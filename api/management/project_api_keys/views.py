"""``/v1/organization/projects/{project_id}/api_keys``"""

from __future__ import annotations

from datetime import timedelta

from api.management.key_terms import NewTerms, Rotation, terms_from
from api.management.operation import operation
from api.management.project_api_keys.wire import (
    CreateProjectKey,
    NewProjectApiKey,
    ProjectApiKey,
    ProjectKeyQuery,
    project_key,
)
from api.management.view import ManagementView
from api.management.wire import Deleted, Page, page_of
from tenants import access, listings
from tenants.actions import create_api_key, revoke_api_key, rotate_api_key, update_api_key
from tenants.models import ApiKey, Project
from tenants.pages import list_page


class ProjectApiKeys(ManagementView):
    @operation("key.read", query=ProjectKeyQuery, answer=Page[ProjectApiKey])
    def get(self, project_id: str, query: ProjectKeyQuery) -> Page[ProjectApiKey]:
        """List a project's keys, those of its service accounts included."""
        keys = listings.project_keys(_project(self, project_id))
        shown = listings.with_owner_access(keys, query.owner_project_access)
        found = list_page(shown, query.cursor, among=keys, is_wide=True)
        return page_of(found, [project_key(row) for row in found.rows])

    @operation("key.create", body=CreateProjectKey, answer=NewProjectApiKey)
    def post(self, project_id: str, body: CreateProjectKey) -> ProjectApiKey:
        """Create a key. OpenAI's API has this for service accounts only."""
        project = access.access_project(self.organization, project_id)
        key, secret = create_api_key(project, body.name, acting_user=None, terms=terms_from(body))
        return project_key(_key(project, key.public_id), secret)


class OneProjectApiKey(ManagementView):
    @operation("key.read", answer=ProjectApiKey)
    def get(self, project_id: str, key_id: str) -> ProjectApiKey:
        """Get a project's key."""
        return project_key(_key(_project(self, project_id), key_id))

    @operation("key.create", body=NewTerms, answer=ProjectApiKey)
    def post(self, project_id: str, key_id: str, body: NewTerms) -> ProjectApiKey:
        """Change a key's name or terms; gateways know within a second."""
        project = _project(self, project_id)
        key = _key(project, key_id)
        name = body.name if isinstance(body.name, str) else None
        update_api_key(key, name=name, terms=terms_from(body, key), acting_user=None)
        return project_key(_key(project, key_id))

    @operation("key.revoke", answer=Deleted)
    def delete(self, project_id: str, key_id: str) -> Deleted:
        """Revoke a key; every gateway refuses it within a second."""
        revoke_api_key(_key(_project(self, project_id), key_id), acting_user=None)
        return Deleted(id=key_id, object="organization.project.api_key.deleted")


class ProjectApiKeyRotation(ManagementView):
    @operation("key.create", body=Rotation, answer=NewProjectApiKey)
    def post(self, project_id: str, key_id: str, body: Rotation) -> ProjectApiKey:
        """Give a key a new secret; the one before works for ``overlap_seconds`` more."""
        project = _project(self, project_id)
        overlap = timedelta(seconds=body.overlap_seconds)
        _, secret = rotate_api_key(_key(project, key_id), overlap=overlap, acting_user=None)
        return project_key(_key(project, key_id), secret)


def _project(view: ManagementView, project_id: str) -> Project:
    return access.access_project(view.organization, project_id, with_archived=True)


def _key(project: Project, key_id: str) -> ApiKey:
    return access.access_in(listings.project_keys(project), key_id, "API key")
