"""From ``Authorization: Bearer sk-…`` to a ``Principal``.

Warm requests cost one HMAC and one dictionary look-up: 0 SQL. The cache is kept
true by PostgreSQL itself: every change to a key, organization or plan sends a
NOTIFY in its own transaction, so a revocation reaches every gateway as it
commits. While the listener is disconnected, entries live one second only.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any

import psycopg
from asgiref.sync import sync_to_async
from cachetools import LRUCache
from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connection
from django.utils import timezone

from tenants import keys, networks, scope
from tenants.actions import CHANNEL
from tenants.errors import (
    AddressNotAllowed,
    InvalidApiKey,
    OrganizationSuspended,
    TenantError,
)
from tenants.key_addresses import KeyAddresses
from tenants.models import ApiKey, LimitFields, Organization, PlanModelLimit, ProjectModelLimit
from tenants.postgres.listening import listener_parameters
from tenants.principal import Limits, Principal

log = logging.getLogger(__name__)

CACHE_ENTRIES = 100_000  # about 100 MB when full; the least recently used leave
# A bound for what no NOTIFY announces: a row changed by hand in the database.
CACHE_TTL_S = 60.0
UNLISTENED_TTL_S = 1.0
# Nobody can revoke a key in a database that is down, so keys that are known go on
# working; bounded, because to a gateway cut off from it the database looks down too.
UNCHECKED_TTL_S = 300.0
# A wrong key is remembered, so that a flood of one costs no SQL; few, because an
# attacker chooses them.
REFUSED_ENTRIES = 10_000
REFUSED_TTL_S = 5.0
LISTENER_BACKOFF_S = (0.1, 5.0)

_NO_KEY = (
    "You didn't provide an API key. Provide it in an Authorization header using "
    "Bearer auth (Authorization: Bearer YOUR_KEY)."
)
BAD_KEY = "Incorrect API key provided. You can find your keys in the portal."


class AuthenticationUnavailable(TenantError):
    """PostgreSQL did not answer, and the key is not in the cache."""

    status = 503
    code = "service_unavailable"
    kind = "server_error"


def parse_bearer(header: bytes | None) -> str:
    """The key's text out of an Authorization header's raw value."""
    if not header:
        raise InvalidApiKey(_NO_KEY)
    scheme, _, text = header.partition(b" ")
    if scheme.lower() != b"bearer" or not text:
        raise InvalidApiKey(_NO_KEY)
    try:
        return text.strip().decode("ascii")
    except UnicodeDecodeError:
        raise InvalidApiKey(BAD_KEY) from None


class Authenticator:
    """One for each gateway process; call ``run_listener`` as a task beside it."""

    def __init__(self) -> None:
        self._pepper = settings.API_KEY_PEPPER
        self._known: LRUCache[bytes, tuple[float, Principal]] = LRUCache(CACHE_ENTRIES)
        self._refused: LRUCache[bytes, float] = LRUCache(REFUSED_ENTRIES)
        self._ttl_s = UNLISTENED_TTL_S
        self._epoch = 0  # rises with every notice; a look-up older than it is not cached
        self.addresses = KeyAddresses()

    async def authenticate(self, header: bytes | None, address: str | None = None) -> Principal:
        """The caller, or one of the room's errors of status 401, 403 and 503.

        ``address`` is the client's, as far as trusted proxies tell it.
        """
        principal = _checked(await self._find(header), address)
        if address is not None:
            self.addresses.note(principal, address)
        return principal

    async def _find(self, header: bytes | None) -> Principal:
        text = parse_bearer(header)
        digest = keys.digest(text, self._pepper)
        now = time.monotonic()
        known = self._known.get(digest)
        if known is not None and now - known[0] < self._ttl_s:
            return known[1]
        refused_at = self._refused.get(digest)
        if refused_at is not None and now - refused_at < REFUSED_TTL_S:
            raise InvalidApiKey(BAD_KEY)
        try:
            return await self._look_up(text, digest, now)
        except AuthenticationUnavailable:
            if known is None or now - known[0] > UNCHECKED_TTL_S:
                raise
            return known[1]

    async def _look_up(self, text: str, digest: bytes, now: float) -> Principal:
        epoch = self._epoch
        lookup = keys.lookup_of(text)
        principal = None
        if lookup is not None:
            try:
                principal = await sync_to_async(get_principal, thread_sensitive=False)(
                    lookup, digest
                )
            except (DatabaseError, psycopg.Error, OSError) as error:
                log.warning("authentication.database_unavailable", extra={"error": repr(error)})
                raise AuthenticationUnavailable("Keys cannot be checked right now.") from error
        is_current = epoch == self._epoch
        if principal is None:
            # Not even a database that then goes down may bring this key back.
            self._known.pop(digest, None)
            if is_current:
                self._refused[digest] = now
            raise InvalidApiKey(BAD_KEY)
        if is_current:
            self._known[digest] = (now, principal)
        return principal

    def forget(self, payload: str) -> None:
        """Drop what is known of an organization's keys, or of all on ``*``."""
        self._epoch += 1
        self._refused.clear()
        if payload == "*":
            self._known.clear()
            return
        stale = [d for d, (_, p) in self._known.items() if str(p.organization) == payload]
        for digest in stale:
            self._known.pop(digest, None)

    async def run_listener(self) -> None:
        """Follow the notices for ever; cancel to stop."""
        await listen(CHANNEL, self.forget, on_connected=self._on_connected)

    def _on_connected(self, connected: bool) -> None:
        self._ttl_s = CACHE_TTL_S if connected else UNLISTENED_TTL_S
        if connected:
            # Notices sent while nobody listened are lost.
            self.forget("*")


async def listen(
    channel: str,
    on_notice: Callable[[str], object],
    on_connected: Callable[[bool], object] = lambda _connected: None,
) -> None:
    """LISTEN on a PostgreSQL channel for ever, reconnecting with capped, jittered back-off."""
    delay = LISTENER_BACKOFF_S[0]
    while True:
        try:
            async with await psycopg.AsyncConnection.connect(
                **listener_parameters(), autocommit=True
            ) as listener:
                await listener.execute(f'LISTEN "{channel}"')
                on_connected(True)
                delay = LISTENER_BACKOFF_S[0]
                async for notice in listener.notifies():
                    on_notice(notice.payload)
        except (psycopg.Error, OSError) as error:
            log.warning("listener.lost", extra={"channel": channel, "error": repr(error)})
        on_connected(False)
        await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311
        delay = min(delay * 2, LISTENER_BACKOFF_S[1])


def get_principal(lookup: str, digest: bytes) -> Principal | None:
    """The principal of a live key whose HMAC is ``digest``: one query to find the key in
    the scope of its lookup part alone, four more in its organization's if it is right."""
    try:
        with scope.for_key(lookup):
            found = ApiKey.objects.filter(revoked_at=None).first()
        if not is_right(found, lookup, digest):
            return None
        assert found is not None
        with scope.for_organization(found.organization_id):
            return _principal_of(found, lookup)
    finally:
        connection.close()  # back to the pool: this thread has no request to end it


def is_right(key: ApiKey | None, lookup: str, digest: bytes) -> bool:
    """Whether ``key``, found by ``lookup``, is live and has this digest.

    Compares in constant time, also when there is no key to compare with.
    """
    stored, is_in_time = b"\0" * 32, False
    if key is not None and key.lookup == lookup:
        stored, is_in_time = bytes(key.secret_hmac), True
    elif key is not None and key.previous_lookup == lookup:
        stored = bytes(key.previous_secret_hmac or stored)
        is_in_time = key.previous_expires_at is not None and (
            key.previous_expires_at > timezone.now()
        )
    return hmac.compare_digest(stored, digest) and is_in_time and key is not None and key.is_live


def _principal_of(found: ApiKey, lookup: str) -> Principal | None:
    key = ApiKey.objects.select_related("organization__plan", "project").get(pk=found.pk)
    organization, plan, project = key.organization, key.organization.plan, key.project
    if project is not None and project.archived_at is not None:
        return None
    ends = [moment for moment in (key.expires_at, _overlap_end(found, lookup)) if moment]
    return Principal(
        api_key=key.pk,
        project=key.project_id or 0,
        organization=organization.pk,
        organization_public_id=organization.public_id,
        fair_share_weight=plan.fair_share_weight,
        region=organization.region,
        data_residency=organization.data_residency,
        screening_policy=organization.screening_policy,
        response_cache_ttl_s=organization.response_cache_ttl_s,
        is_suspended=organization.is_suspended,
        key_expires_at=min(ends).timestamp() if ends else None,
        organization_limits=_organization_limits(organization),
        project_limits=_limits(project) if project else Limits(),
        key_limits=_limits(key),
        organization_model_limits=_by_model(PlanModelLimit.objects.filter(plan=plan)),
        project_model_limits=_by_model(ProjectModelLimit.objects.filter(project=project)),
        credit_granted_micros=organization.credit_granted_micros
        if organization.is_prepaid
        else None,
        kind=key.kind,
        scopes=frozenset(key.scopes),
        allowed_networks=tuple(key.allowed_networks),
        allowed_models=tuple(
            frozenset(names)
            for names in (key.allowed_models, project.allowed_models if project else [])
            if names
        ),
        denied_models=frozenset(project.denied_models if project else []),
    )


def _overlap_end(key: ApiKey, lookup: str) -> datetime | None:
    """When the presented secret ends, if it is the one before a rotation."""
    return key.previous_expires_at if lookup == key.previous_lookup else None


def _organization_limits(organization: Organization) -> Limits:
    """The organization's own where its plan allows them and they are set, else the plan's."""
    plan = _limits(organization.plan)
    if not organization.plan.allows_custom_limits:
        return plan
    own = {name: getattr(organization, name) for name in Limits.__dataclass_fields__}
    return replace(plan, **{name: value for name, value in own.items() if value is not None})


def _limits(row: LimitFields) -> Limits:
    return Limits(**{name: getattr(row, name) for name in Limits.__dataclass_fields__})


def _by_model(rows: Iterable[PlanModelLimit | ProjectModelLimit]) -> dict[str, Limits]:
    return {row.model: _limits(row) for row in rows}


def _checked(principal: Principal, address: str | None) -> Principal:
    if principal.key_expires_at is not None and principal.key_expires_at <= time.time():
        raise InvalidApiKey(BAD_KEY)
    if principal.allowed_networks and not (
        address and networks.is_within(address, principal.allowed_networks)
    ):
        raise AddressNotAllowed("This API key cannot be used from your address.")
    if principal.is_suspended:
        raise OrganizationSuspended(
            "This organization is suspended. Its owner can find out why in the portal."
        )
    return principal
