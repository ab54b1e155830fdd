"""Sums that Redis does not know (new, lost, in doubt), read from the ledger's room.

``tenants`` knows no ledger: whoever wires the gateway gives a ``ReadSpent``.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from tenants.admission.limits import month_start_s
from tenants.admission.scripts import SEED, STATE_KEPT_MS
from tenants.admission.subjects import Subject
from tenants.redis_link import RedisLink

_SEED = struct.Struct("<5d")


@dataclass(frozen=True, slots=True)
class SpentQuery:
    """Whose use is asked for: an organization's, or only its part of a project, key or model."""

    organization: int
    project: int | None
    api_key: int | None
    model: str | None
    month_start: datetime
    needs_life: bool  # whether also what was spent before the month


@dataclass(frozen=True, slots=True)
class Spent:
    """Everything that was settled when it was read, recorded or not."""

    month_tokens: int
    month_micros: int
    life_micros: int | None


ReadSpent = Callable[[SpentQuery], Awaitable[Spent]]


async def nobody_knows(_query: SpentQuery) -> Spent:
    """For processes that only settle."""
    raise RuntimeError("This process was given nothing that reads what was spent.")


class Seeder:
    """Reads each subject once, however many requests wait for it here."""

    def __init__(self, link: RedisLink, read_spent: ReadSpent):
        self._link = link
        self._read = read_spent
        self._running: dict[str, asyncio.Task[None]] = {}

    async def seed(self, subjects: Sequence[tuple[Subject, int]], month: int) -> None:
        """Seed each subject whose doubts were so many. Raises RedisError and what reads raise."""
        await asyncio.gather(*(asyncio.shield(self._started(*asked, month)) for asked in subjects))

    def _started(self, subject: Subject, doubts: int, month: int) -> asyncio.Task[None]:
        task = self._running.get(subject.key)
        if task is None:
            task = asyncio.create_task(self._seed(subject, doubts, month))
            self._running[subject.key] = task
            task.add_done_callback(lambda _: self._running.pop(subject.key, None))
        return task

    async def _seed(self, subject: Subject, doubts: int, month: int) -> None:
        spent = await self._read(
            SpentQuery(
                organization=subject.organization,
                project=subject.project,
                api_key=subject.api_key,
                model=subject.model,
                month_start=datetime.fromtimestamp(month_start_s(month), UTC),
                needs_life=subject.amounts.needs_life,
            )
        )
        life = -1 if spent.life_micros is None else spent.life_micros
        seed = _SEED.pack(month, doubts, spent.month_tokens, spent.month_micros, life)
        await self._link.run_script(SEED, [subject.key], [seed, STATE_KEPT_MS])
