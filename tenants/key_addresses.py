"""Notices a key that is used from an address it was never used from before.

The token path pays one dictionary look-up; what is new waits in a bounded list and
is written by a thread, beside an audit event for what the database did not know.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

import psycopg
from asgiref.sync import sync_to_async
from cachetools import LRUCache
from django.db import Error as DatabaseError
from django.db import connection, transaction

from tenants import audit, scope
from tenants.models import ApiKey, ApiKeyAddress
from tenants.principal import Principal

log = logging.getLogger(__name__)

KNOWN_ENTRIES = 100_000
# Past it a flood of addresses is not worth remembering before the next write.
MOST_WAITING = 5_000
WRITE_EVERY_S = 1.0
# A key behind a pool of addresses is noticed this often, then no more.
MOST_OF_A_KEY = 200

Use = tuple[int, int, str]  # organization, key, address


class KeyAddresses:
    """One for each gateway process; ``run`` writes what ``note`` saw."""

    def __init__(self) -> None:
        self._known: LRUCache[tuple[int, str], bool] = LRUCache(KNOWN_ENTRIES)
        self._waiting: list[Use] = []

    def note(self, principal: Principal, address: str) -> None:
        if principal.api_key <= 0:  # a person, whose session has its own record
            return
        place = (principal.api_key, address)
        if place in self._known or len(self._waiting) >= MOST_WAITING:
            return
        self._known[place] = True
        self._waiting.append((principal.organization, principal.api_key, address))

    async def run(self) -> None:
        """For ever; cancel to stop. What the database does not take is tried again."""
        while True:
            await asyncio.sleep(WRITE_EVERY_S)
            uses, self._waiting = self._waiting, []
            if not uses:
                continue
            try:
                await sync_to_async(record_uses, thread_sensitive=False)(uses)
            except (DatabaseError, psycopg.Error, OSError) as error:
                log.warning("key_addresses.not_written", extra={"error": repr(error)})
                self._wait_again(uses)
            except Exception:  # the edge of a loop that nobody else watches
                log.exception("key_addresses.failed")

    def _wait_again(self, uses: list[Use]) -> None:
        """What does not fit is forgotten, so that its next use is noted."""
        waiting = uses + self._waiting
        self._waiting = waiting[:MOST_WAITING]
        for _, key, address in waiting[MOST_WAITING:]:
            self._known.pop((key, address), None)


def record_uses(uses: Iterable[Use]) -> int:
    """Remember where keys were used from; returns how many places were new."""
    try:
        return sum(record_use(*use) for use in uses)
    finally:
        connection.close()  # back to the pool: this thread has no request to end it


def record_use(organization: int, key: int, noted: str) -> bool:
    """Remember one place; True if the key was not used from there before."""
    address = audit.stored_address(noted)
    if address is None:  # no address to PostgreSQL: it would never take it
        return False
    with scope.for_organization(organization), transaction.atomic():
        known = ApiKeyAddress.objects.filter(organization=organization, api_key=key)
        if known.filter(address=address).exists() or known.count() >= MOST_OF_A_KEY:
            return False
        is_first = not known.exists()
        keys = ApiKey.objects.filter(pk=key, organization=organization)
        found = keys.select_related("organization", "project").first()
        if found is None:
            return False
        _, is_new = ApiKeyAddress.objects.get_or_create(
            api_key=found, address=address, defaults={"organization": found.organization}
        )
        # Every key has a first address; only another one is news.
        if is_new and not is_first:
            audit.record_event(
                acting_user=None,
                action="api_key.used_from_new_address",
                object_type="api_key",
                object_id=found.public_id,
                organization=found.organization,
                project=found.project.public_id if found.project else "",
                after={"last_four": found.last_four},
                address=address,
            )
        return is_new
