"""``/v1/organization/admin_api_keys``: nobody gives, shows or ends more than they have."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from api.management.admin_api_keys.wire import (
    AdminApiKey,
    AdminKeyTerms,
    CreateAdminKey,
    NewAdminApiKey,
    admin_key,
)
from api.management.key_terms import Rotation, terms_from
from api.management.operation import operation
from api.management.view import ManagementView
from api.management.wire import Deleted, OrderedQuery, Page, page_of
from tenants import access, listings
from tenants.actions import (
    KeyTerms,
    create_api_key,
    revoke_api_key,
    rotate_api_key,
    update_api_key,
)
from tenants.models import ApiKey
from tenants.pages import list_page
from tenants.permissions import ALL


class AdminApiKeys(ManagementView):
    @operation("admin_key.manage", query=OrderedQuery, answer=Page[AdminApiKey])
    def get(self, query: OrderedQuery) -> Page[AdminApiKey]:
        """List admin keys."""
        found = list_page(listings.admin_keys(self.organization), query.cursor, is_wide=True)
        return page_of(found, [admin_key(row) for row in found.rows])

    @operation("admin_key.manage", body=CreateAdminKey, answer=NewAdminApiKey)
    def post(self, body: CreateAdminKey) -> AdminApiKey:
        """Create an admin key; its permissions are never more than the asking key's."""
        terms = terms_from(body) or KeyTerms()
        if isinstance(body.scopes, list):
            self.actor.check_gives(_permissions(body.scopes))
        else:
            terms = replace(terms, scopes=tuple(self.key.scopes))
        key, secret = create_api_key(self.organization, body.name, acting_user=None, terms=terms)
        return admin_key(_found(self, key.public_id), secret)


class OneAdminApiKey(ManagementView):
    @operation("admin_key.manage", answer=AdminApiKey)
    def get(self, key_id: str) -> AdminApiKey:
        """Get an admin key."""
        return admin_key(_found(self, key_id))

    @operation("admin_key.manage", body=AdminKeyTerms, answer=AdminApiKey)
    def post(self, key_id: str, body: AdminKeyTerms) -> AdminApiKey:
        """Change an admin key's name or terms."""
        key = _held(self, key_id)
        if isinstance(body.scopes, list):
            self.actor.check_gives(_permissions(body.scopes))
        name = body.name if isinstance(body.name, str) else None
        update_api_key(key, name=name, terms=terms_from(body, key), acting_user=None)
        return admin_key(_found(self, key_id))

    @operation("admin_key.manage", answer=Deleted)
    def delete(self, key_id: str) -> Deleted:
        """Revoke an admin key at once."""
        revoke_api_key(_held(self, key_id), acting_user=None)
        return Deleted(id=key_id, object="organization.admin_api_key.deleted")


class AdminApiKeyRotation(ManagementView):
    @operation("admin_key.manage", body=Rotation, answer=NewAdminApiKey)
    def post(self, key_id: str, body: Rotation) -> AdminApiKey:
        """Give an admin key a new secret; the one before works a while longer."""
        overlap = timedelta(seconds=body.overlap_seconds)
        _, secret = rotate_api_key(_held(self, key_id), overlap=overlap, acting_user=None)
        return admin_key(_found(self, key_id), secret)


def _found(view: ManagementView, key_id: str) -> ApiKey:
    return access.access_in(listings.admin_keys(view.organization), key_id, "API key")


def _held(view: ManagementView, key_id: str) -> ApiKey:
    """The key, if the asking one may do all that it may: else its secret would be a way up."""
    key = _found(view, key_id)
    view.actor.check_gives(access.get_key_actor(key).everywhere)
    return key


def _permissions(scopes: list[str]) -> frozenset[str]:
    """What a key of these scopes may do; the action refuses those that do not exist."""
    return frozenset(scopes) & ALL if scopes else ALL
