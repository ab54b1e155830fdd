"""Leases of lines: claim, renew, hand back, reap. Every clock is PostgreSQL's.

A claim raises a line's fencing token, and whoever holds an older one can commit nothing
(``inference.batches.commit``). A lease that runs out costs an attempt; a line that was
claimed ``MOST_ATTEMPTS`` times in vain is one that its runners die of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connection

# A killed runner's lines are found after this and the reaper's second.
LEASE_S = 10.0
MOST_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class OpenBatch:
    """A batch with lines that wait, as a runner needs it."""

    pk: int
    public_id: str
    organization: int
    api_key: int
    endpoint: str
    model: str
    input_key: str  # of its file in the object store
    mean_line_bytes: int


@dataclass(frozen=True, slots=True)
class HeldLine:
    """A line under a lease."""

    pk: int
    batch: OpenBatch
    number: int
    custom_id: str
    position: int
    length: int
    token: int
    attempts: int

    @property
    def request_id(self) -> str:
        """Of this attempt: no other attempt, and no other line, has the same."""
        return f"{self.batch.public_id.removeprefix('batch_')}-{self.number}-{self.token}"


_OPEN = """
SELECT batch.id, batch.public_id, batch.organization_id, batch.api_key_id, batch.endpoint,
    batch.model, file.organization_id || '/' || file.public_id,
    file.bytes / greatest(batch.total, 1)
FROM inference_batch AS batch
JOIN inference_file AS file ON file.public_id = batch.input_file
WHERE batch.status = 'in_progress' AND batch.expires_at > statement_timestamp() AND EXISTS (
    SELECT FROM inference_batchline AS line
    WHERE line.batch_id = batch.id AND line.state = 'waiting' AND line.run_after <= statement_timestamp())
ORDER BY batch.id LIMIT %s
"""
_CLAIM = """
WITH chosen AS (
    SELECT id FROM inference_batchline
    WHERE batch_id = %(batch)s AND state = 'waiting' AND run_after <= statement_timestamp()
    ORDER BY number LIMIT %(most)s FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE inference_batchline AS line
SET state = 'leased', fencing_token = fencing_token + 1, attempts = attempts + 1,
    lease_owner = %(owner)s, lease_expires_at = statement_timestamp() + %(lease_s)s * interval '1 second'
FROM chosen WHERE line.id = chosen.id
RETURNING line.id, line.number, line.custom_id, line.position, line.length,
    line.fencing_token, line.attempts
"""
_RENEW = """
UPDATE inference_batchline AS line
SET lease_expires_at = statement_timestamp() + %s * interval '1 second'
FROM unnest(%s::bigint[], %s::int[]) AS held(id, token), inference_batch AS batch
WHERE line.id = held.id AND line.fencing_token = held.token AND line.state = 'leased'
    AND batch.id = line.batch_id AND batch.status = 'in_progress'
RETURNING line.id
"""
_HAND_BACK = """
UPDATE inference_batchline AS line
SET state = 'waiting', lease_owner = '', lease_expires_at = NULL,
    attempts = greatest(0, attempts - held.uncounted),
    run_after = statement_timestamp() + held.after_s * interval '1 second'
FROM unnest(%s::bigint[], %s::int[], %s::int[], %s::float8[])
    AS held(id, token, uncounted, after_s)
WHERE line.id = held.id AND line.fencing_token = held.token AND line.state = 'leased'
"""
_REAP = """
UPDATE inference_batchline SET state = 'waiting', lease_owner = '', lease_expires_at = NULL
WHERE id IN (
    SELECT id FROM inference_batchline
    WHERE state = 'leased' AND lease_expires_at < statement_timestamp()
    ORDER BY id LIMIT %s FOR NO KEY UPDATE SKIP LOCKED)
"""
_REAPED_AT_ONCE = 10_000
_MOST_OPEN = 1_000


def get_open_batches() -> list[OpenBatch]:
    """Everybody's, oldest first: who reads them decides how many lines of each to claim."""
    with connection.cursor() as cursor:
        cursor.execute(_OPEN, [_MOST_OPEN])
        return [OpenBatch(*row) for row in cursor.fetchall()]


def claim_lines(
    batch: OpenBatch, owner: str, most: int, lease_s: float = LEASE_S
) -> list[HeldLine]:
    """Up to ``most`` of its next lines, in the file's order."""
    arguments: dict[str, Any] = {
        "batch": batch.pk,
        "most": most,
        "owner": owner[:80],
        "lease_s": lease_s,
    }
    with connection.cursor() as cursor:
        cursor.execute(_CLAIM, arguments)
        rows = cursor.fetchall()
    lines = [HeldLine(pk, batch, *rest) for pk, *rest in rows]
    return sorted(lines, key=lambda line: line.number)


def renew_lines(lines: Sequence[HeldLine], lease_s: float = LEASE_S) -> set[int]:
    """Extend the leases; returns the primary keys of the lines that are lost: their batch
    was cancelled or is over, or somebody else has them."""
    pks = [line.pk for line in lines]
    with connection.cursor() as cursor:
        cursor.execute(_RENEW, [lease_s, pks, [line.token for line in lines]])
        kept = {pk for (pk,) in cursor.fetchall()}
    return set(pks) - kept


@dataclass(frozen=True, slots=True)
class HandedBack:
    """A line that somebody shall run later; ``is_counted`` if that was an attempt."""

    line: HeldLine
    after_s: float = 0.0
    is_counted: bool = False


def hand_back_lines(handed: Sequence[HandedBack]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            _HAND_BACK,
            [
                [each.line.pk for each in handed],
                [each.line.token for each in handed],
                [0 if each.is_counted else 1 for each in handed],
                [each.after_s for each in handed],
            ],
        )


def count_open_lines() -> int:
    """Of all batches that are in progress: what is neither done nor failed."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT coalesce(sum(total - completed - failed), 0) FROM inference_batch"
            " WHERE status = 'in_progress'"
        )
        return int(cursor.fetchone()[0])


def reap_lines() -> int:
    """Put lines whose lease ran out back in line; returns how many."""
    with connection.cursor() as cursor:
        cursor.execute(_REAP, [_REAPED_AT_ONCE])
        return cursor.rowcount
