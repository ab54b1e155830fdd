"""In whose name work runs that its key asked for earlier: the key as it is now."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from tenants.errors import InvalidApiKey, OrganizationSuspended
from tenants.principal import Principal
from tenants.principals import get_key_principal

# A key that is revoked stops its work within this.
PRINCIPAL_TTL_S = 1.0
MOST_KNOWN = 10_000


class KeyPrincipals:
    """By the primary keys of API keys; ``in_thread`` calls what touches the database."""

    def __init__(self, in_thread: Callable[..., object]) -> None:
        self._in_thread = in_thread
        self._known: dict[int, tuple[float, Principal | None]] = {}
        self._reading: dict[int, asyncio.Future[Principal | None]] = {}

    async def get(self, key: int) -> Principal:
        """Raises what a live request would get."""
        known = self._known.get(key)
        if known is None or time.monotonic() - known[0] > PRINCIPAL_TTL_S:
            found = await self._read(key)
        else:
            found = known[1]
        if found is None:
            raise InvalidApiKey("The API key that asked for this does not work any more.")
        if found.is_suspended:
            raise OrganizationSuspended("This organization is suspended.")
        return found

    async def _read(self, key: int) -> Principal | None:
        """One look for all that ask at once."""
        reading = self._reading.get(key)
        if reading is None:
            reading = self._reading[key] = asyncio.ensure_future(self._look(key))
            reading.add_done_callback(lambda _: self._reading.pop(key, None))
        return await asyncio.shield(reading)

    async def _look(self, key: int) -> Principal | None:
        began = time.monotonic()
        found = await asyncio.to_thread(self._in_thread, get_key_principal, key)
        assert found is None or isinstance(found, Principal)
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
        self._known[key] = began, found
        return found
