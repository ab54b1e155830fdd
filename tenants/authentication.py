"""From ``Authorization: Bearer sk-…`` to a ``Principal``.

Warm requests cost one HMAC and one dictionary look-up: 0 SQL. The cache is kept
true by PostgreSQL itself: every change to a key, organization or plan sends a
NOTIFY in its own transaction, so a revocation reaches every gateway as it
commits. While the listener is disconnected, entries live one second only.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import psycopg
from cachetools import LRUCache
from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connection

from tenants import keys, networks
from tenants.actions import CHANNEL
from tenants.changes import Changes
from tenants.errors import (
    AddressNotAllowed,
    InvalidApiKey,
    OrganizationSuspended,
    TenantError,
)
from tenants.key_addresses import KeyAddresses
from tenants.postgres.listening import listen
from tenants.principal import Principal
from tenants.principals import get_principal

log = logging.getLogger(__name__)

Known = tuple[float, Principal]  # when its look-up began

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
# Their own, so that a flood of unknown keys delays nothing else that needs a thread.
LOOK_UP_THREADS = 8
# Half a second of work for them; more callers than that are told to come back.
LOOK_UPS_AT_ONCE = 256
# A look-up takes milliseconds; a caller whose key is known goes on without one.
LOOK_UP_TIMEOUT_S = 2.0
AWAY_RETRY_S = 1.0

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
    text = text.strip()
    if len(text) > keys.LONGEST:  # a megabyte is not worth its HMAC
        raise InvalidApiKey(BAD_KEY)
    try:
        return text.decode("ascii")
    except UnicodeDecodeError:
        raise InvalidApiKey(BAD_KEY) from None


class Credentials(NamedTuple):
    """A key by its lookup part and its digest, as the database knows it."""

    lookup: str
    digest: bytes


class Authenticator:
    """One for each gateway process; call ``run_listener`` as a task beside it."""

    def __init__(self) -> None:
        self._pepper = settings.API_KEY_PEPPER
        self._known: LRUCache[bytes, Known] = LRUCache(CACHE_ENTRIES)
        self._refused: LRUCache[bytes, float] = LRUCache(REFUSED_ENTRIES)
        self._pending: dict[bytes, tuple[float, asyncio.Task[Principal | TenantError]]] = {}
        self._changes = Changes()
        self._ttl_s = UNLISTENED_TTL_S
        self._fresh_from = -math.inf  # what was read before is read again, if it can be
        self._is_away = False  # the database, when it was asked last
        self._ask_again_at = 0.0
        self._threads = ThreadPoolExecutor(LOOK_UP_THREADS, "key-look-up")
        self.addresses = KeyAddresses()

    async def authenticate(self, header: bytes | None, address: str | None = None) -> Principal:
        """The caller, or one of the room's errors of status 401, 403 and 503.

        ``address`` is the client's, as far as trusted proxies tell it.
        """
        principal = _checked(await self._find(header), address)
        if address is not None:
            self.addresses.note(principal, address)
        return principal

    def credentials_of(self, header: bytes | None) -> Credentials:
        """What to ask for a key with again and again, without holding its secret."""
        text = parse_bearer(header)
        lookup = keys.lookup_of(text)
        if lookup is None:
            raise InvalidApiKey(BAD_KEY)
        return Credentials(lookup, keys.digest(text, self._pepper))

    async def authenticate_again(self, held: Credentials, address: str | None = None) -> Principal:
        """The same by what ``credentials_of`` gave."""
        principal = _checked(await self._find(None, held), address)
        if address is not None:
            self.addresses.note(principal, address)
        return principal

    def has_changed(self, organization: int, since: float) -> bool:
        """Whether what was read of an organization's keys at ``since`` (monotonic) may be wrong."""
        if self._changes.last(organization) >= since or self._fresh_from >= since:
            return True
        return time.monotonic() - since > self._ttl_s

    async def _find(self, header: bytes | None, held: Credentials | None = None) -> Principal:
        if held is None:
            text = parse_bearer(header)
            digest = keys.digest(text, self._pepper)
        else:
            digest = held.digest
        now = time.monotonic()
        known = self._known.get(digest)
        # Of what was read before a change nothing is believed, whatever happens.
        if known is not None and known[0] <= self._changes.last(known[1].organization):
            known = None
        if known is not None and now - known[0] < self._ttl_s and known[0] > self._fresh_from:
            return known[1]
        refused_at = self._refused.get(digest)
        if refused_at is not None and now - refused_at < REFUSED_TTL_S:
            raise InvalidApiKey(BAD_KEY)
        lookup = keys.lookup_of(text) if held is None else held.lookup
        if lookup is None:  # no key of ours looks like this, whatever the database says
            raise InvalidApiKey(BAD_KEY)
        usable = known[1] if known is not None and now - known[0] <= UNCHECKED_TTL_S else None
        return await self._look_up(lookup, digest, now, usable)

    async def _look_up(
        self, lookup: str, digest: bytes, now: float, usable: Principal | None
    ) -> Principal:
        """What the database says now; while it says nothing, ``usable`` if there is one."""
        try:
            task = self._begin_look_up(lookup, digest, now)
            if usable is not None and self._is_away:
                return usable  # the look-up goes on: its answer counts for the next request
            # Shielded, because it answers for everybody who presents this key now.
            async with asyncio.timeout(LOOK_UP_TIMEOUT_S):
                outcome = await asyncio.shield(task)
        except TimeoutError:
            self._note_away(now, "no answer in time")
            outcome = _unavailable()
        except AuthenticationUnavailable as error:
            outcome = error
        if isinstance(outcome, Principal):
            return outcome
        if usable is not None and isinstance(outcome, AuthenticationUnavailable):
            return usable
        raise outcome

    def _begin_look_up(
        self, lookup: str, digest: bytes, now: float
    ) -> asyncio.Task[Principal | TenantError]:
        """The one look-up of this key that is running, if nothing changed since it began."""
        if pending := self._pending.get(digest):
            began, task = pending
            if began > self._changes.latest and not task.done():
                return task
        if len(self._pending) >= LOOK_UPS_AT_ONCE:
            raise _unavailable()
        if self._is_away:
            # One request in a while finds out; a thousand at once would wait in a queue.
            if now < self._ask_again_at:
                raise _unavailable()
            self._ask_again_at = now + AWAY_RETRY_S
        task = asyncio.create_task(self._ask(lookup, digest, now))
        self._pending[digest] = now, task
        task.add_done_callback(lambda done: self._forget_pending(digest, done))
        return task

    def _forget_pending(self, digest: bytes, done: asyncio.Task[Any]) -> None:
        pending = self._pending.get(digest)
        if pending is not None and pending[1] is done:
            del self._pending[digest]

    async def _ask(self, lookup: str, digest: bytes, began: float) -> Principal | TenantError:
        """The key's principal, or the error for whoever waits; it never raises one."""
        try:
            principal = await asyncio.get_running_loop().run_in_executor(
                self._threads, _look, lookup, digest
            )
        except (DatabaseError, psycopg.Error, OSError) as error:
            self._note_away(began, repr(error))
            return _unavailable()
        self._is_away = False
        if principal is None:
            # Not even a database that then goes down may bring this key back.
            self._known.pop(digest, None)
            if began > self._changes.latest:
                self._refused[digest] = began
            return InvalidApiKey(BAD_KEY)
        self._known[digest] = (began, principal)
        return principal

    def _note_away(self, now: float, reason: str) -> None:
        if not self._is_away:
            log.warning("authentication.database_unavailable", extra={"error": reason})
        self._is_away = True
        self._ask_again_at = max(self._ask_again_at, now + AWAY_RETRY_S)

    def forget(self, payload: str) -> None:
        """Believe nothing older of an organization's keys, or of all on ``*``."""
        now = time.monotonic()
        self._refused.clear()
        if payload.isdigit():
            self._changes.note(int(payload), now)
        else:
            self._changes.note_all(now)

    async def run_listener(self) -> None:
        """Follow the notices for ever; cancel to stop."""
        await listen(CHANNEL, self.forget, on_connected=self._on_connected)

    def _on_connected(self, connected: bool) -> None:
        self._ttl_s = CACHE_TTL_S if connected else UNLISTENED_TTL_S
        if connected:
            # Notices sent while nobody listened are lost.
            self._fresh_from = time.monotonic()
            self._refused.clear()


def _look(lookup: str, digest: bytes) -> Principal | None:
    # Not above: it needs ``Credentials``.
    from tenants import people

    if not people.is_member(lookup):
        return get_principal(lookup, digest)
    try:
        return people.get_member_principal(lookup)
    finally:
        connection.close()  # back to the pool: this thread has no request to end it


def _unavailable() -> AuthenticationUnavailable:
    return AuthenticationUnavailable("Keys cannot be checked right now.")


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
