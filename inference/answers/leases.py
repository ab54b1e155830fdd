"""Leases of background responses: claim, renew, hand back, reap. Every clock is PostgreSQL's.

As of batch lines (``inference.batches.lines``): a claim raises the fencing token, and whoever holds
an older one can end nothing (``inference.answers.ending``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db import connection

from inference.answers.content import unseal

# A killed runner's responses begin anew after this and the reaper's second.
LEASE_S = 10.0
MOST_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class HeldResponse:
    """A response under a lease."""

    pk: int
    public_id: str
    organization: int
    api_key: int
    has_log: bool
    token: int
    attempts: int
    left_s: float  # until it has failed for its age
    sealed_request: bytes = field(repr=False)

    @property
    def request(self) -> dict[str, Any]:
        """What it is made from, as it was asked for."""
        return unseal(self.sealed_request)

    @property
    def log_id(self) -> str:
        return self.public_id.removeprefix("resp_")

    @property
    def request_id(self) -> str:
        """Of this attempt: no other attempt, and no other response, has the same."""
        return f"{self.log_id}-{self.token}"


# Whoever has the fewest under way is next; of one organization the oldest.
_CLAIM = """
WITH busy AS (
    SELECT organization_id, count(*) AS running FROM inference_backgroundresponse
    WHERE state <> 'queued' GROUP BY organization_id
), waiting AS (
    SELECT id, organization_id, row_number() OVER (PARTITION BY organization_id ORDER BY id) AS place
    FROM inference_backgroundresponse
    WHERE state = 'queued' AND run_after <= statement_timestamp() AND expires_at > statement_timestamp()
), next AS (
    SELECT waiting.id FROM waiting LEFT JOIN busy USING (organization_id)
    ORDER BY coalesce(busy.running, 0) + waiting.place, waiting.id LIMIT %(most)s
), chosen AS (
    SELECT id FROM inference_backgroundresponse
    WHERE id IN (SELECT id FROM next) AND state = 'queued' FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE inference_backgroundresponse AS work
SET state = 'running', fencing_token = fencing_token + 1, attempts = attempts + 1,
    lease_owner = %(owner)s, lease_expires_at = statement_timestamp() + %(lease_s)s * interval '1 second'
FROM chosen WHERE work.id = chosen.id
RETURNING work.id, work.public_id, work.organization_id, work.api_key_id, work.has_log,
    work.fencing_token, work.attempts,
    extract(epoch FROM work.expires_at - statement_timestamp())::float8, work.request
"""
_RENEW = """
UPDATE inference_backgroundresponse AS work
SET lease_expires_at = statement_timestamp() + %s * interval '1 second'
FROM unnest(%s::bigint[], %s::int[]) AS held(id, token)
WHERE work.id = held.id AND work.fencing_token = held.token AND work.state <> 'queued'
RETURNING work.id, work.state
"""
_HAND_BACK = """
UPDATE inference_backgroundresponse
SET state = 'queued', lease_owner = '', lease_expires_at = NULL, attempts = greatest(0, attempts - %s),
    run_after = statement_timestamp() + %s * interval '1 second'
WHERE id = %s AND fencing_token = %s AND state = 'running'
"""
_REAP = """
UPDATE inference_backgroundresponse SET state = 'queued', lease_owner = '', lease_expires_at = NULL
WHERE id IN (
    SELECT id FROM inference_backgroundresponse
    WHERE state = 'running' AND lease_expires_at < statement_timestamp()
    ORDER BY id LIMIT 1000 FOR NO KEY UPDATE SKIP LOCKED)
"""


def claim_responses(owner: str, most: int, lease_s: float = LEASE_S) -> list[HeldResponse]:
    """Up to ``most`` of everybody's."""
    arguments: dict[str, Any] = {"owner": owner[:80], "most": most, "lease_s": lease_s}
    with connection.cursor() as cursor:
        cursor.execute(_CLAIM, arguments)
        rows = cursor.fetchall()
    return [HeldResponse(*row) for row in rows]


def renew_responses(
    held: Sequence[HeldResponse], lease_s: float = LEASE_S
) -> tuple[set[int], set[int]]:
    """Extend the leases; the primary keys of those that are to be stopped, and of those that
    are lost: somebody else's, or gone."""
    with connection.cursor() as cursor:
        pks = [each.pk for each in held]
        cursor.execute(_RENEW, [lease_s, pks, [each.token for each in held]])
        states = dict(cursor.fetchall())
    stopping = {pk for pk, state in states.items() if state == "cancelling"}
    return stopping, set(pks) - set(states)


def hand_back_response(held: HeldResponse, after_s: float = 0.0, *, is_counted: bool) -> bool:
    """Somebody shall make it later; False if it is not ours to hand back any more, or is to be
    stopped. ``is_counted``: this was an attempt."""
    with connection.cursor() as cursor:
        cursor.execute(_HAND_BACK, [0 if is_counted else 1, after_s, held.pk, held.token])
        return bool(cursor.rowcount)


def reap_responses() -> int:
    """Put those whose lease ran out back in line; returns how many."""
    with connection.cursor() as cursor:
        cursor.execute(_REAP)
        return cursor.rowcount


def count_open_responses() -> int:
    """Of the installation: those that have not ended."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM inference_backgroundresponse")
        return int(cursor.fetchone()[0])
