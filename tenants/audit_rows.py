"""The audit chains as PostgreSQL holds them, read in pages of bounded size."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any

from django.db import connection

from tenants.audit_chain import (
    ChainCheck,
    Fault,
    Finding,
    Head,
    Link,
    differing_fields,
)
from tenants.models import Organization

PLATFORM = 0  # the chain of events that belong to no organization
# Rows hold up to about 100 KB, lists of models before and after a change.
ROWS_A_PAGE = 500
HEADS_A_PAGE = 1000
_LAST = 2**63 - 1
_MOST_UNCHAINED = 100


@dataclass(frozen=True, slots=True)
class Row:
    """One event; ``columns`` are those that repeat the content, as ``audit_chain.FIELDS``."""

    chain: int
    link: Link
    columns: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Chain:
    key: int  # the organization's primary key, or PLATFORM
    head: Head | None  # as it was before the rows were read, if there was one
    rows: Iterable[Row]


# The parts of a chain's key set are written out: a row comparison reads the index
# (organization, number) in its order, page after page.
_COLUMNS = """
SELECT coalesce(organization_id, 0), number, previous_hash, hash, content, public_id, at,
    organization_id, actor_type, acting_user_id, acting_key_id, project_id, action, object_type,
    object_id, before::text, after::text, host(address)
FROM tenants_auditevent WHERE number IS NOT NULL
"""
_PAGE = f"""{_COLUMNS} AND (organization_id, number) > (%s, %s) AND organization_id <= %s
ORDER BY organization_id, number LIMIT {ROWS_A_PAGE}"""
_PLATFORM_PAGE = f"""{_COLUMNS} AND organization_id IS NULL AND number > %s
ORDER BY number LIMIT {ROWS_A_PAGE}"""
# Rows from before the chain have smaller ids than every chained one.
_UNCHAINED = """
SELECT coalesce(organization_id, 0), public_id FROM tenants_auditevent
WHERE number IS NULL AND id > (SELECT min(id) FROM tenants_auditevent WHERE number IS NOT NULL)
    AND (%s::bigint IS NULL OR coalesce(organization_id, 0) = %s::bigint)
ORDER BY id LIMIT %s
"""


def export_rows(organization: Organization, after: int = 0) -> Iterator[Row]:
    """An organization's chain in its order, from the row after number ``after`` on."""
    return _rows(organization.pk, organization.pk, after)


def export_platform_rows(after: int = 0) -> Iterator[Row]:
    """The chain of events of no organization; the web role sees none of them."""
    while page := _page(_PLATFORM_PAGE, after):
        yield from page
        after = page[-1].link.number


def _rows(first: int, last: int, after: int) -> Iterator[Row]:
    """Rows of the organizations ``first`` to ``last``, of the first one those after a number."""
    place = (first, after)
    while page := _page(_PAGE, *place, last):
        yield from page
        place = (page[-1].chain, page[-1].link.number)


def _page(query: str, *parameters: int) -> list[Row]:
    with connection.cursor() as cursor:
        cursor.execute(query, parameters)
        return [_row(*columns) for columns in cursor.fetchall()]


def _row(
    chain: int, number: int, previous_hash: str, digest: str, content: str, *columns: Any
) -> Row:
    *others, before, after, address = columns
    values = (*others, json.loads(before), json.loads(after), address)
    return Row(chain, Link(number, previous_hash, digest, content), values)


# --- Chains with their heads ----------------------------------------------------------------


def get_head(key: int) -> Head | None:
    """A chain's head; only staff and the owner may read it."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT number, hash FROM tenants_auditchain WHERE organization_key = %s", [key]
        )
        found = cursor.fetchone()
    return Head(*found) if found else None


def read_chain(key: int) -> Chain:
    head = get_head(key)
    return Chain(key, head, export_platform_rows() if key == PLATFORM else _rows(key, key, 0))


def read_chains() -> Iterator[Chain]:
    """Every chain, the platform's first. Use up one's rows before asking for the next."""
    yield read_chain(PLATFORM)
    done = PLATFORM
    while heads := _heads(done):
        last = max(heads)
        yield from _joined(heads, _rows(done + 1, last, 0))
        done = last
    yield from _joined({}, _rows(done + 1, _LAST, 0))


def _heads(after: int) -> dict[int, Head]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT organization_key, number, hash FROM tenants_auditchain"
            " WHERE organization_key > %s ORDER BY organization_key LIMIT %s",
            [after, HEADS_A_PAGE],
        )
        return {key: Head(number, digest) for key, number, digest in cursor.fetchall()}


def _joined(heads: dict[int, Head], rows: Iterator[Row]) -> Iterator[Chain]:
    """Each chain that has a head, rows, or both; ``heads`` is in the order of its keys."""
    waiting = iter(heads.items())
    ahead = next(waiting, None)
    for key, of_chain in groupby(rows, key=attrgetter("chain")):
        while ahead is not None and ahead[0] < key:
            yield Chain(*ahead, ())
            ahead = next(waiting, None)
        has_head = ahead is not None and ahead[0] == key
        yield Chain(key, ahead[1] if ahead is not None and has_head else None, of_chain)
        if has_head:
            ahead = next(waiting, None)
    while ahead is not None:
        yield Chain(*ahead, ())
        ahead = next(waiting, None)


# --- Verification ------------------------------------------------------------------------


class ChainVerification:
    """Walks over one chain of the database; ``check`` knows its last row afterwards."""

    def __init__(self, chain: Chain, kept: Iterable[Head] = ()) -> None:
        self.chain = chain
        self.check = ChainCheck(chain.head, kept)

    def findings(self) -> Iterator[Finding]:
        for row in self.chain.rows:
            yield from self.check.take(row.link)
            if differing := differing_fields(row.link.content, row.columns):
                yield Finding(row.link.number, Fault.COLUMNS, ", ".join(differing))
        yield from self.check.finish()
        yield from self._beyond_head()

    def _beyond_head(self) -> Iterator[Finding]:
        """Rows that came while we read have moved the head, which forged ones have not."""
        head, last = self.chain.head, self.check.last
        if last.number <= (head.number if head is not None else 0):
            return
        head = get_head(self.chain.key)
        if head is None:
            yield Finding(last.number, Fault.HEADLESS)
        elif last.number > head.number:
            yield Finding(last.number, Fault.BEYOND)


def unchained(key: int | None = None) -> Iterator[tuple[int, Finding]]:
    """Rows without a number that are newer than the chain, of one chain or of all."""
    with connection.cursor() as cursor:
        cursor.execute(_UNCHAINED, [key, key, _MOST_UNCHAINED])
        for chain, public_id in cursor.fetchall():
            yield chain, Finding(0, Fault.UNCHAINED, public_id)
