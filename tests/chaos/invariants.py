"""What must hold after any mix of faults, from what clients recorded and what was booked."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from tests.chaos.clients import Ask, Attempt, Clients, Record
from tests.chaos.ground import Ground, Tenant, until

RECORDED_WITHIN_S = 60.0
# A hold whose gateway was killed: 45 s of age, 15 s without its mailbox, the next of the
# reconciler's turns, which come every 30 s.
RELEASED_WITHIN_S = 120.0
Expected = dict[tuple[str, int, int], tuple[str, tuple[int, int]]]


@dataclass(frozen=True)
class Finding:
    """One invariant: whether it holds, and in which figures."""

    name: str
    holds: bool
    said: str


@dataclass(frozen=True)
class Row:
    """A request's usage, as PostgreSQL has it."""

    request_id: str
    organization: int
    status: str
    tokens: tuple[int, int]
    cost_micros: int


# --- What clients saw -------------------------------------------------------------------------


def check_texts(records: Iterable[Record], expected: Expected) -> Finding:
    """Every answer is the undisturbed one, and every broken one its beginning. The prompts
    name their tenant, so that another tenant's answer is a wrong one too."""
    wrong, checked = [], 0
    for record in records:
        text, _ = expected[record.identity]
        checked += bool(record.text)
        is_whole = record.text == text and record.finish_reason == "length"
        if not (is_whole if record.outcome == "complete" else text.startswith(record.text)):
            wrong.append(record.last.request_id)
    return Finding(
        "texts as undisturbed", not wrong, f"{checked - len(wrong)} of {checked} {wrong[:3]}"
    )


def check_usage_told(records: Iterable[Record], expected: Expected) -> Finding:
    complete = [record for record in records if record.outcome == "complete"]
    wrong = [each.last.request_id for each in complete if each.usage != expected[each.identity][1]]
    return Finding("usage told as undisturbed", not wrong, f"{len(complete)} answers {wrong[:3]}")


def check_refusals(records: Iterable[Record]) -> Finding:
    """Whoever is told to come back is told when; a spent budget says so by its code."""
    refused = [
        attempt
        for record in records
        for attempt in record.attempts
        if attempt.status in {429, 503} and attempt.code != "insufficient_quota"
    ]
    bare = [attempt.code for attempt in refused if not attempt.retry_after]
    return Finding("refusals say when to retry", not bare, f"{len(refused)} refused {bare[:3]}")


def most_at_once(records: Iterable[Record], tenant: Tenant) -> int:
    """How many of a tenant's streams ran at one moment for certain: between head and last text,
    which lies within what the platform counts."""
    edges: list[tuple[float, int]] = []
    for record in records:
        if record.identity[0] == tenant.name and record.is_stream and record.text_at:
            edges += [(record.last.head_at, 1), (record.text_at, -1)]
    running = most = 0
    for _, change in sorted(edges):
        running += change
        most = max(most, running)
    return most


# --- What was booked --------------------------------------------------------------------------


async def usage_rows(ground: Ground, since: float, wanted: set[str]) -> dict[str, Row]:
    """Rows of requests that began after ``since``, once all ``wanted`` are there or time is up."""
    deadline = time.monotonic() + RECORDED_WITHIN_S
    while True:
        found = await ground.query(
            "SELECT request_id, organization_id, status, prompt_tokens, completion_tokens,"
            " cost_micros FROM billing_usageevent WHERE started_at >= to_timestamp(%s)",
            since,
        )
        rows = {row[0]: Row(row[0], row[1], row[2], (row[3], row[4]), row[5]) for row in found}
        if wanted <= rows.keys() or time.monotonic() > deadline:
            return rows
        await asyncio.sleep(0.5)


def check_booked(
    records: list[Record], rows: dict[str, Row], tenants: dict[str, Tenant]
) -> list[Finding]:
    complete = {each.last.request_id: each for each in records if each.outcome == "complete"}
    missing = complete.keys() - rows.keys()
    wrong = [
        request_id
        for request_id, record in complete.items()
        if request_id in rows
        and (rows[request_id].tokens, rows[request_id].organization)
        != (record.usage, tenants[record.identity[0]].pk)
    ]
    told, booked = _sums(complete, rows, tenants)
    return [
        Finding(
            "seen to its end, booked once",
            not missing,
            f"{len(complete) - len(missing)} of {len(complete)} {sorted(missing)[:3]}",
        ),
        Finding("booked as told, to whom asked", not wrong, f"{len(complete)} rows {wrong[:3]}"),
        Finding(
            "ledger = usage told, each tenant",
            told == booked,
            f"{sum(told.values())} tokens told, {sum(booked.values())} booked",
        ),
        *_check_others(records, rows, complete.keys()),
    ]


def _sums(
    complete: dict[str, Record], rows: dict[str, Row], tenants: dict[str, Tenant]
) -> tuple[Counter[int], Counter[int]]:
    told: Counter[int] = Counter()
    booked: Counter[int] = Counter()
    for request_id, record in complete.items():
        told[tenants[record.identity[0]].pk] += sum(record.usage or (0, 0))
        if request_id in rows:
            booked[rows[request_id].organization] += sum(rows[request_id].tokens)
    return told, booked


def _check_others(
    records: list[Record], rows: dict[str, Row], complete: Iterable[str]
) -> list[Finding]:
    """Rows of requests whose end no client saw: refused ones cost nothing, broken ones at most
    what was asked for, and there are no more than were broken."""
    attempts = [(record, each) for record in records for each in record.attempts]
    by_id = {each.request_id: (record, each) for record, each in attempts if each.request_id}
    unseen = sum(not each.request_id for _, each in attempts)
    others = [row for request_id, row in rows.items() if request_id not in set(complete)]
    strangers = [row.request_id for row in others if row.request_id not in by_id]
    dear = [row.request_id for row in others if not _is_fair(row, by_id.get(row.request_id))]
    return [
        Finding("errors are free", not dear, f"{len(others)} rows of unended requests {dear[:3]}"),
        Finding(
            "nothing booked that nobody asked",
            len(strangers) <= unseen,
            f"{len(strangers)} booked of {unseen} whose connection broke before an answer",
        ),
    ]


def _is_fair(row: Row, known: tuple[Record, Attempt] | None) -> bool:
    if known is None:
        return True  # counted among the strangers
    record, attempt = known
    if attempt.status >= 400 or record.outcome == "failed":
        return sum(row.tokens) == 0
    return row.tokens[1] <= record.identity[2]


async def check_ledger(ground: Ground) -> list[Finding]:
    """Of the whole database: entries sum to zero, and to what usage cost."""
    (zero,) = await ground.query("SELECT coalesce(sum(amount_micros), 0) FROM billing_ledgerentry")
    (owed,) = await ground.query(
        "SELECT coalesce(sum(amount_micros), 0) FROM billing_ledgerentry WHERE account = 'receivable'"
    )
    (cost,) = await ground.query("SELECT coalesce(sum(cost_micros), 0) FROM billing_usageevent")
    (rejected,) = await ground.query("SELECT count(*) FROM billing_rejectedreport")
    return [
        Finding("the ledger sums to zero", zero[0] == 0, f"{zero[0]}"),
        Finding("entries = cost of usage", owed[0] == cost[0], f"{owed[0]} of {cost[0]} µ$"),
        Finding("no report rejected", rejected[0] == 0, f"{rejected[0]}"),
    ]


async def check_budget(ground: Ground, tenant: Tenant) -> Finding:
    (spent,) = await ground.query(
        "SELECT coalesce(sum(cost_micros), 0) FROM billing_usageevent WHERE organization_id = %s",
        tenant.pk,
    )
    return Finding(
        "never more spent than the budget",
        spent[0] <= tenant.limit,
        f"{spent[0]} of {tenant.limit} µ$",
    )


# --- What is left -----------------------------------------------------------------------------


async def check_released(ground: Ground, clients: Clients, narrow: Tenant) -> Finding:
    """No hold is left, and the narrow tenant finds every one of its places."""
    began = time.monotonic()
    async with ground.redis() as redis:

        async def is_empty() -> bool:
            return not await redis.zcard("holds") and not await redis.keys("held:*")

        try:
            await until(is_empty, RELEASED_WITHIN_S, 0.5)
        except AssertionError:
            return Finding("nothing left held", False, f"{await redis.zcard('holds')} holds")
    took_s = time.monotonic() - began
    again = await clients.ask_all(
        [Ask(narrow, prompt, retries=0) for prompt in range(narrow.limit)], narrow.limit
    )
    free = sum(record.outcome == "complete" for record in again)
    return Finding(
        "nothing left held",
        free == narrow.limit,
        f"{free} of {narrow.limit} places free, holds gone after {took_s:.0f} s",
    )
