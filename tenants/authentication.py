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
from collections.abc import Callable
from typing import Any

import psycopg
from asgiref.sync import sync_to_async
from cachetools import LRUCache
from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connection

from tenants import keys
from tenants.actions import CHANNEL
from tenants.errors import InvalidApiKey, OrganizationSuspended, TenantError
from tenants.models import ApiKey, LimitFields
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
_BAD_KEY = "Incorrect API key provided. You can find your keys in the portal."


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
        raise InvalidApiKey(_BAD_KEY) from None


class Authenticator:
    """One for each gateway process; call ``run_listener`` as a task beside it."""

    def __init__(self) -> None:
        self._pepper = settings.API_KEY_PEPPER
        self._known: LRUCache[bytes, tuple[float, Principal]] = LRUCache(CACHE_ENTRIES)
        self._refused: LRUCache[bytes, float] = LRUCache(REFUSED_ENTRIES)
        self._ttl_s = UNLISTENED_TTL_S
        self._epoch = 0  # rises with every notice; a look-up older than it is not cached

    async def authenticate(self, header: bytes | None) -> Principal:
        """The caller, or InvalidApiKey / OrganizationSuspended / AuthenticationUnavailable."""
        text = parse_bearer(header)
        digest = keys.digest(text, self._pepper)
        now = time.monotonic()
        known = self._known.get(digest)
        if known is not None and now - known[0] < self._ttl_s:
            return _checked(known[1])
        refused_at = self._refused.get(digest)
        if refused_at is not None and now - refused_at < REFUSED_TTL_S:
            raise InvalidApiKey(_BAD_KEY)
        try:
            principal = await self._look_up(text, digest, now)
        except AuthenticationUnavailable:
            if known is None or now - known[0] > UNCHECKED_TTL_S:
                raise
            principal = known[1]
        return _checked(principal)

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
            raise InvalidApiKey(_BAD_KEY)
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
                **_listener_parameters(), autocommit=True
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


def _listener_parameters() -> dict[str, Any]:
    database: dict[str, Any] = settings.DATABASES["default"]
    parameters = {
        "dbname": database["NAME"],
        "user": database["USER"],
        "password": database["PASSWORD"],
        "host": database["HOST"],
        "port": database["PORT"],
        "connect_timeout": int(settings.DATABASE_TIMEOUT_S) or 1,
        # A cut network must show as a lost connection within seconds.
        "keepalives_idle": 2,
        "keepalives_interval": 1,
        "keepalives_count": 3,
    }
    return {name: value for name, value in parameters.items() if value not in ("", None)}


def get_principal(lookup: str, digest: bytes) -> Principal | None:
    """The principal of a live key whose HMAC is ``digest``; one query."""
    try:
        key = (
            ApiKey.objects.select_related("organization__plan", "project")
            .filter(lookup=lookup, revoked_at=None, project__archived_at=None)
            .first()
        )
    finally:
        connection.close()  # back to the pool: this thread has no request to end it
    stored = bytes(key.secret_hmac) if key is not None else b"\0" * 32
    if not hmac.compare_digest(stored, digest) or key is None or not key.is_live:
        return None
    organization, plan = key.organization, key.organization.plan
    return Principal(
        api_key=key.pk,
        project=key.project_id,
        organization=organization.pk,
        organization_public_id=organization.public_id,
        fair_share_weight=plan.fair_share_weight,
        region=organization.region,
        data_residency=organization.data_residency,
        screening_policy=organization.screening_policy,
        response_cache_ttl_s=organization.response_cache_ttl_s,
        is_suspended=organization.is_suspended,
        key_expires_at=key.expires_at.timestamp() if key.expires_at else None,
        organization_limits=_limits(plan),
        key_limits=_limits(key),
    )


def _limits(row: LimitFields) -> Limits:
    return Limits(
        requests_per_minute=row.requests_per_minute,
        tokens_per_minute=row.tokens_per_minute,
        concurrent_requests=row.concurrent_requests,
        monthly_tokens=row.monthly_tokens,
    )


def _checked(principal: Principal) -> Principal:
    if principal.key_expires_at is not None and principal.key_expires_at <= time.time():
        raise InvalidApiKey(_BAD_KEY)
    if principal.is_suspended:
        raise OrganizationSuspended(
            "This organization is suspended. Its owner can find out why in the portal."
        )
    return principal
