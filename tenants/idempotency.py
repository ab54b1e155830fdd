"""Writes that happen once, however often their request arrives (``Idempotency-Key``).

The unique row goes in first and is committed. Whoever then holds its lock does the
work, and stores the answer in the work's own transaction: a process that dies leaves
an empty row and no effect, so the next try may simply begin. A second request that
arrives meanwhile finds the lock taken and is told to wait.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from tenants import locks
from tenants.errors import IdempotencyKeyReused, RequestInFlight
from tenants.models import IdempotentRequest, Organization

KEPT_FOR = timedelta(hours=24)
_PURGED_AT_ONCE = 10_000


@dataclass(frozen=True)
class Outcome:
    status: int
    body: bytes
    is_replay: bool = False

    @property
    def is_final(self) -> bool:
        """Whether the same request would be answered like this again: a conflict, a limit
        and a fault of ours pass."""
        return self.status < 500 and self.status not in (409, 429)


def answer_once(
    organization: Organization,
    caller: str,
    key: str,
    fingerprint: str,
    work: Callable[[], Outcome],
    stored: Callable[[bytes], bytes],
) -> Outcome:
    """What ``work`` answered the first time; ``stored`` gives the body that is kept of it.

    ``work`` runs in a transaction, and undoes its own effects where it answers with an
    error. Raises RequestInFlight, IdempotencyKeyReused.
    """
    row, _ = IdempotentRequest.objects.get_or_create(
        organization=organization, caller=caller, key=key, defaults={"fingerprint": fingerprint}
    )
    if row.fingerprint != fingerprint:
        raise IdempotencyKeyReused(
            "This Idempotency-Key was used with another request; choose a new one."
        )
    with transaction.atomic():
        locked = locks.lock_idempotent_request(row.pk)
        if locked is None:
            raise RequestInFlight("The first request with this Idempotency-Key is still running.")
        if locked.status is not None:
            return Outcome(locked.status, bytes(locked.body or b""), is_replay=True)
        outcome = work()
        if outcome.is_final:
            locked.status, locked.body = outcome.status, stored(outcome.body)
            locked.save(update_fields=["status", "body"])
        else:
            locked.delete()
        return outcome


def purge_requests() -> int:
    """Forget what is older than a day; returns how many. Everybody's, so only for staff."""
    old = IdempotentRequest.objects.filter(created_at__lt=timezone.now() - KEPT_FOR)
    pks = list(old.values_list("pk", flat=True)[:_PURGED_AT_ONCE])
    return IdempotentRequest.objects.filter(pk__in=pks).delete()[0]
