"""``/v1/organization/projects/{project_id}/service_accounts``"""

from __future__ import annotations

from datetime import timedelta

from django.utils import timezone

from api.management.key_terms import terms_from
from api.management.operation import operation
from api.management.service_accounts.wire import (
    CreateServiceAccount,
    CreateServiceAccountKey,
    NewServiceAccount,
    ServiceAccount,
    ServiceAccountChange,
    ServiceAccountKey,
    fields_of,
)
from api.management.unsupported import UnsupportedField
from api.management.view import ManagementView
from api.management.wire import Deleted, ListQuery, Page, page_of
from tenants import access, listings
from tenants.actions import (
    KeyTerms,
    create_api_key,
    create_service_account,
    create_service_account_with_key,
    delete_service_account,
    key_name_of,
    rename_service_account,
)
from tenants.errors import InvalidInput
from tenants.models import ServiceAccount as AccountRow
from tenants.pages import list_page


class ServiceAccounts(ManagementView):
    @operation("project.read", query=ListQuery, answer=Page[ServiceAccount])
    def get(self, project_id: str, query: ListQuery) -> Page[ServiceAccount]:
        """List a project's service accounts."""
        project = access.access_project(self.organization, project_id, with_archived=True)
        found = list_page(listings.service_accounts(project), query.cursor)
        return page_of(found, [ServiceAccount(**fields_of(row)) for row in found.rows])

    @operation("service_account.manage", body=CreateServiceAccount, answer=NewServiceAccount)
    def post(self, project_id: str, body: CreateServiceAccount) -> NewServiceAccount:
        """Create a service account, with a key unless only the account is asked for."""
        project = access.access_project(self.organization, project_id)
        if body.create_service_account_only:
            if body.expires_in_seconds is not None:
                raise InvalidInput("There is no key to expire.", param="expires_in_seconds")
            account = create_service_account(project, body.name, acting_user=None)
            return NewServiceAccount(**fields_of(account), api_key=None)
        self.actor.check("key.create", project)
        expires_in = body.expires_in_seconds
        account, key, secret = create_service_account_with_key(
            project,
            body.name,
            acting_user=None,
            terms=KeyTerms(
                expires_at=timezone.now() + timedelta(seconds=expires_in) if expires_in else None
            ),
        )
        shown = ServiceAccountKey.of(key, secret)
        return NewServiceAccount(**fields_of(account), api_key=shown)


class OneServiceAccount(ManagementView):
    @operation("project.read", answer=ServiceAccount)
    def get(self, project_id: str, account_id: str) -> ServiceAccount:
        """Get a service account."""
        return ServiceAccount(**fields_of(_found(self, project_id, account_id)))

    @operation("service_account.manage", body=ServiceAccountChange, answer=ServiceAccount)
    def post(self, project_id: str, account_id: str, body: ServiceAccountChange) -> ServiceAccount:
        """Rename a service account."""
        account = _found(self, project_id, account_id)
        if body.role not in (None, "member"):
            raise UnsupportedField("A service account's role is member.", param="role")
        if body.name is not None:
            account = rename_service_account(account, body.name, acting_user=None)
        return ServiceAccount(**fields_of(account))

    @operation("service_account.manage", answer=Deleted)
    def delete(self, project_id: str, account_id: str) -> Deleted:
        """Delete a service account and revoke its keys."""
        delete_service_account(_found(self, project_id, account_id), acting_user=None)
        return Deleted(id=account_id, object="organization.project.service_account.deleted")


class ServiceAccountKeys(ManagementView):
    @operation("key.create", body=CreateServiceAccountKey, answer=ServiceAccountKey)
    def post(
        self, project_id: str, account_id: str, body: CreateServiceAccountKey
    ) -> ServiceAccountKey:
        """Create another key of a service account."""
        self.actor.check("service_account.manage")
        account = _found(self, project_id, account_id)
        name = body.name if isinstance(body.name, str) else key_name_of(account)
        key, secret = create_api_key(account, name, acting_user=None, terms=terms_from(body))
        return ServiceAccountKey.of(key, secret)


def _found(view: ManagementView, project_id: str, account_id: str) -> AccountRow:
    project = access.access_project(view.organization, project_id)
    return access.access_service_account(project, account_id)
