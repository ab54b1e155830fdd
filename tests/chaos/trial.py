"""One scenario's run: its load, what was done to the platform, and what came of it."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.chaos import invariants
from tests.chaos.clients import PROMPTS, Ask, Clients, Prober, Record
from tests.chaos.ground import Ground, Tenant
from tests.chaos.invariants import Expected, Finding


@dataclass
class Result:
    """What a report says of one scenario."""

    name: str
    faults: list[str]
    counts: dict[str, int]
    findings: list[Finding]
    worst_recovery_s: float | None
    longest_silence_s: float
    took_s: float
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        return all(finding.holds for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "holds": self.holds}


async def learn(ground: Ground) -> Expected:
    """Every ask's undisturbed answer, all different, and what it costs."""
    expected: Expected = {}
    async with Clients(ground.platform.url) as clients:
        for tenant in ground.tenants.values():
            asks = [Ask(tenant, prompt) for prompt in range(PROMPTS)]
            await clients.ask_all(
                asks, at_once=tenant.limit if tenant.name == "narrow" else PROMPTS
            )
        await clients.ask(Ask(ground.tenants["open-1"], PROMPTS, max_tokens=2))
    for record in clients.records:
        assert record.outcome == "complete" and record.usage, record
        expected[record.identity] = record.text, record.usage
    long = [text for (_, prompt, _), (text, _) in expected.items() if prompt < PROMPTS]
    if ground.engine == "simulated":  # a small model says the same of several prompts
        assert len(set(long)) == len(long), "two asks have one answer, which hides a mix-up"
    return expected


class Trial:
    """``async with Trial(…).load(…)`` around the faults, then ``end``."""

    def __init__(self, ground: Ground, expected: Expected, name: str, rng: random.Random):
        self.ground, self.expected, self.name, self.rng = ground, expected, name, rng
        self.clients = Clients(ground.platform.url)
        self.began_at = time.time()
        self.faults: list[str] = []
        self.findings: list[Finding] = []
        self.notes: dict[str, Any] = {}
        # More than the limit only where this scenario's faults are declared to allow it.
        self.most_at_once = self.narrow.limit
        self.worst_recovery_s: float | None = None
        self._prober = Prober(ground.platform.url, ground.tenants["open-1"])

    @property
    def narrow(self) -> Tenant:
        return self.ground.tenants["narrow"]

    @property
    def open(self) -> list[Tenant]:
        return [each for name, each in self.ground.tenants.items() if name.startswith("open")]

    def fault(self, said: str) -> None:
        at = time.time() - self.began_at
        self.faults.append(f"{at:.1f} s: {said}")
        print(f"    {self.faults[-1]}", flush=True)

    def expect(self, name: str, holds: bool, said: str) -> None:
        self.findings.append(Finding(name, holds, said))

    def chance(self, low_s: float, high_s: float) -> float:
        return self.rng.uniform(low_s, high_s)

    async def pause(self, low_s: float, high_s: float) -> None:
        await asyncio.sleep(self.chance(low_s, high_s))

    @asynccontextmanager
    async def load(self, at_once: int = 24) -> AsyncIterator[None]:
        """Everybody asks, again and again, and a prober beside them."""
        stop = asyncio.Event()
        tasks = [
            asyncio.create_task(self.clients.ask_until(stop, self.open, at_once, self.rng)),
            asyncio.create_task(self._crowd(stop)),
            asyncio.create_task(self._spend(stop)),
        ]
        prober = asyncio.create_task(self._prober.run())
        try:
            yield
            stop.set()
            await asyncio.gather(*tasks)
        finally:
            for task in (prober, *tasks):
                task.cancel()
            await asyncio.gather(prober, *tasks, return_exceptions=True)

    async def _crowd(self, stop: asyncio.Event) -> None:
        """Twice as many as the narrow tenant may; who is refused comes back."""

        async def work(prompt: int) -> None:
            while not stop.is_set():
                record = await self.clients.ask(Ask(self.narrow, prompt % PROMPTS, retries=0))
                if record.outcome != "complete":
                    await asyncio.sleep(0.25)

        await asyncio.gather(*(work(prompt) for prompt in range(2 * self.narrow.limit)))

    async def _spend(self, stop: asyncio.Event) -> None:
        """Two who spend what their budget has, and go on asking when it is spent."""
        budget = self.ground.tenants["budget"]

        async def work() -> None:
            while not stop.is_set():
                ask = Ask(budget, self.rng.randrange(PROMPTS), self.rng.random() < 0.5, retries=0)
                if (await self.clients.ask(ask)).outcome != "complete":
                    await asyncio.sleep(1.0)

        await asyncio.gather(work(), work())

    def recovered(self, since: float) -> float:
        """Note how long after ``since`` (a cause removed) probes still failed."""
        seconds = self._prober.recovered_after_s(since)
        self.worst_recovery_s = max(seconds, self.worst_recovery_s or 0.0)
        return seconds

    # --- The end ---------------------------------------------------------------------------

    def of(self, *outcomes: str) -> list[Record]:
        """Records of everybody but those whom a limit of their own may refuse."""
        limited = {"narrow", "budget"}
        return [
            record
            for record in self.clients.records
            if record.outcome in outcomes and record.identity[0] not in limited
        ]

    async def end(self) -> Result:
        """Check everything that holds after any fault."""
        records = list(self.clients.records)
        self.findings += [
            invariants.check_texts(records, self.expected),
            invariants.check_usage_told(records, self.expected),
            invariants.check_refusals(records),
            self._check_narrow(records),
        ]
        booked = [*records, *self._prober.clients.records]
        wanted = {each.last.request_id for each in booked if each.outcome == "complete"}
        rows = await invariants.usage_rows(self.ground, self.began_at, wanted)
        self.findings += invariants.check_booked(booked, rows, self.ground.tenants)
        self.findings.append(
            await invariants.check_released(self.ground, self.clients, self.narrow)
        )
        self.findings.append(
            await invariants.check_budget(self.ground, self.ground.tenants["budget"])
        )
        await self.clients.__aexit__()
        return self._result(records)

    def _check_narrow(self, records: list[Record]) -> Finding:
        most = invariants.most_at_once(records, self.narrow)
        return Finding(
            "never more at once than allowed",
            most <= self.most_at_once,
            f"{most} at once, limit {self.narrow.limit}, declared {self.most_at_once}",
        )

    def _result(self, records: list[Record]) -> Result:
        outcomes = Counter(record.outcome for record in records)
        codes = Counter(
            f"{each.status} {each.code}" for r in records for each in r.attempts if each.code
        )
        counts = {
            "requests": len(records),
            **{name: outcomes[name] for name in ("complete", "refused", "cut", "failed")},
            "retried": sum(len(record.attempts) > 1 for record in records),
        }
        return Result(
            self.name,
            self.faults,
            counts,
            self.findings,
            self.worst_recovery_s,
            max((record.longest_silence_s for record in records), default=0.0),
            time.time() - self.began_at,
            {**self.notes, "errors": dict(codes)},
        )
