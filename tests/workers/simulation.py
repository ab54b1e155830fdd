"""A replica in virtual time: the real intake and the simulated engine's own steps."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Coroutine, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from unittest import mock

from inference.engine_protocol import EngineSpec, Step
from inference.wire import Delta
from tests.workers.factory import make_submission
from workers.engine import fair_queue, intake
from workers.engine.intake import Intake
from workers.engine.speed import Speed
from workers.engines import simulated
from workers.engines.simulated import Profile, SimulatedEngine


@dataclass(frozen=True)
class Arrival:
    at: float
    organization: int
    prompt_tokens: int
    output_tokens: int
    tier: str = "standard"
    weight: int = 1


@dataclass
class Served:
    """When its first token came, and its last; None: not yet, or refused."""

    arrival: Arrival
    started_at: float | None = None
    first_at: float | None = None
    ended_at: float | None = None
    refused: str = ""

    @property
    def first_token_s(self) -> float:
        assert self.first_at is not None
        return self.first_at - self.arrival.at

    @property
    def queue_s(self) -> float:
        assert self.started_at is not None
        return self.started_at - self.arrival.at


class Replica:
    """``serve`` arrivals; ``until`` ends it with what is not served by then."""

    def __init__(self, profile: Profile, capacity: int):
        self.now = 0.0
        self.speed = Speed()
        self.intake = Intake(capacity, self.speed)
        self.intake.kv_tokens = profile.kv_tokens
        self.engine = SimulatedEngine()
        self.engine._profile, self.engine._emit = profile, self._emit
        self.engine._on_step = self._stepped
        self.engine._spec = EngineSpec("tiny", "chat", "", "auto", 4096, capacity)
        self.busy_s = 0.0
        self.tokens_by_organization: dict[int, int] = defaultdict(int)
        self._served: dict[str, Served] = {}

    def serve(self, arrivals: Iterable[Arrival], until: float = 1e9) -> list[Served]:
        pending = sorted(arrivals, key=lambda each: each.at, reverse=True)
        results: list[Served] = []
        with self._virtual_time():
            while self.now < until and (pending or self.engine._live or self.intake.waiting):
                while pending and pending[-1].at <= self.now:
                    results.append(self._arrive(pending.pop()))
                self._feed()
                if self.engine._live:
                    _finish(self.engine._step(self.now))
                elif pending:
                    self.now = pending[-1].at
        return results

    def _arrive(self, arrival: Arrival) -> Served:
        submission = make_submission(
            arrival.organization,
            weight=arrival.weight,
            prompt_tokens=arrival.prompt_tokens,
            max_tokens=arrival.output_tokens,
            tier=arrival.tier,
        )
        served = self._served[submission.engine_id] = Served(arrival)
        refusal = self.intake.offer(submission)
        if refusal is not None:
            served.refused = refusal.reason
        self._feed()
        return served

    def _feed(self) -> None:
        while (running := self.intake.next()) is not None:
            submission = running.submission
            self._served[submission.engine_id].started_at = self.now
            with mock.patch.object(simulated.asyncio, "create_task", _no_stepper):
                _finish(self.engine.submit(submission))

    def _stepped(self, step: Step) -> None:
        self.speed.learn(step)
        self.busy_s += step.duration_s

    def _emit(self, delta: Delta) -> None:
        served = self._served[delta.request_id]
        running = self.intake.running[delta.request_id]
        self.intake.grew(running, len(delta.token_ids))
        self.tokens_by_organization[served.arrival.organization] += len(delta.token_ids)
        if served.first_at is None:
            served.first_at = self.now
        if delta.finish_reason:
            served.ended_at = self.now
            self.intake.ended(delta.request_id)
            self.intake.learn(running)

    @contextmanager
    def _virtual_time(self) -> Iterator[None]:
        async def sleep(seconds: float) -> None:
            self.now += seconds

        clock = SimpleNamespace(monotonic=lambda: self.now, time=time.time)
        with (
            mock.patch.object(simulated.asyncio, "sleep", sleep),
            mock.patch.object(simulated, "time", clock),
            mock.patch.object(intake, "time", clock),
            mock.patch.object(fair_queue, "time", clock),
        ):
            yield


def _no_stepper(steps: Coroutine[Any, Any, None]) -> SimpleNamespace:
    """The simulation makes the steps itself."""
    steps.close()
    return SimpleNamespace(done=lambda: True)


def _finish(coroutine: Coroutine[Any, Any, Any]) -> None:
    """Run what never waits for anything but the virtual clock."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise AssertionError("it waits")


def jain(parts: Iterable[float]) -> float:
    """Jain's index of fairness: 1 when all are equal."""
    parts = list(parts)
    return sum(parts) ** 2 / (len(parts) * sum(part * part for part in parts))
