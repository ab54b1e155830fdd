"""Programs that manage an organization: from ``Authorization: Bearer sk-admin-…`` to the key.

The management API's synchronous counterpart of ``tenants.authentication``: the same
errors for the same faults. It asks PostgreSQL each time, so a revocation holds at once.
"""

from __future__ import annotations

import threading
from datetime import timedelta

from cachetools import LRUCache
from django.conf import settings
from django.utils import timezone

from tenants import keys, networks, scope
from tenants.actions import touch_api_keys
from tenants.authentication import BAD_KEY, parse_bearer
from tenants.errors import (
    AccessDenied,
    AddressNotAllowed,
    InvalidApiKey,
    OrganizationSuspended,
)
from tenants.key_addresses import record_use
from tenants.models import ApiKey
from tenants.principals import is_right

# Often enough to see a key that is in use, and no write for each call.
TOUCH_EVERY = timedelta(minutes=1)
# Places that were written; the database knows the others.
_known_places: LRUCache[tuple[int, str], bool] = LRUCache(10_000)
_known_lock = threading.Lock()


def authenticate_admin_key(header: bytes | None, address: str | None) -> ApiKey:
    """The live admin key that ``header`` presents, with its organization and creator loaded.

    Raises the room's errors of status 401 and 403. Two queries, whatever the key.
    """
    text = parse_bearer(header)
    lookup = keys.lookup_of(text)
    if lookup is None:
        raise InvalidApiKey(BAD_KEY)
    with scope.for_key(lookup):
        found = ApiKey.objects.filter(revoked_at=None).first()
    if not is_right(found, lookup, keys.digest(text, settings.API_KEY_PEPPER)):
        raise InvalidApiKey(BAD_KEY)
    assert found is not None
    with scope.for_organization(found.organization_id):
        key = ApiKey.objects.select_related(
            "organization__plan", "project", "service_account", "created_by"
        ).get(pk=found.pk)
    _check(key, address)
    return key


def _check(key: ApiKey, address: str | None) -> None:
    if key.project is not None and key.project.archived_at is not None:
        raise InvalidApiKey(BAD_KEY)
    if key.service_account is not None and key.service_account.deleted_at is not None:
        raise InvalidApiKey(BAD_KEY)
    if key.allowed_networks and not (address and networks.is_within(address, key.allowed_networks)):
        raise AddressNotAllowed("This API key cannot be used from your address.")
    if key.organization.is_suspended:
        raise OrganizationSuspended(
            "This organization is suspended. Its owner can find out why in the portal."
        )
    if key.kind != ApiKey.Kind.ADMIN:
        raise AccessDenied("This API key infers; an admin key (sk-admin-…) manages.")


def note_use(key: ApiKey, address: str | None) -> None:
    """Remember when and from where the key was used. In the scope of its organization."""
    now = timezone.now()
    if key.last_used_at is None or key.last_used_at < now - TOUCH_EVERY:
        touch_api_keys({key.pk: now})
    if address is None:
        return
    with _known_lock:
        is_known = (key.pk, address) in _known_places
        _known_places[key.pk, address] = True
    if not is_known:
        record_use(key.organization_id, key.pk, address)
