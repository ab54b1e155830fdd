"""Faults of the engine itself, which only a real one has: ``--engine vllm``, two replicas."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import suppress
from dataclasses import replace

import httpx
import psutil

from tests.chaos.clients import PROMPTS, Ask, Record
from tests.chaos.ground import until
from tests.chaos.scenarios import Scenario, Size
from tests.chaos.trial import Trial

STREAMS = 6
# 5 s without a token while any is owed, and twice what its prompts take to be computed: of
# a CPU with work beside it that is seconds more than of a GPU, whose bound is 15 s.
OUT_OF_ROTATION_S = 40.0
LOADS_WITHIN_S = 240.0


def _asks(trial: Trial, count: int = STREAMS) -> list[Ask]:
    return [
        Ask(trial.rng.choice(trial.open), trial.rng.randrange(PROMPTS), retries=0)
        for _ in range(count)
    ]


async def engine_killed(trial: Trial, size: Size) -> None:
    """vLLM's engine process is killed under its worker, in the middle of its streams."""
    done = 0
    for _ in range(size.engine_faults):
        await trial.ground.all_ready(LOADS_WITHIN_S)
        running = asyncio.create_task(trial.clients.ask_all(_asks(trial), STREAMS))
        victim = await _busy_replica(trial, trial.rng)
        await trial.pause(0.2, 1.5)
        process = trial.ground.engine_process(victim)
        process.kill()
        trial.fault(f"kill -9 the engine process of {victim} ({process.pid})")
        done += sum(record.outcome == "complete" for record in await running)
    total = size.engine_faults * STREAMS
    trial.expect("every stream completes", done == total, f"{done} of {total}, no retries")
    await trial.ground.all_ready(LOADS_WITHIN_S)


async def engine_frozen(trial: Trial, size: Size) -> None:
    """vLLM's engine process stands still while its worker is well: nobody is sent there."""
    await trial.ground.all_ready(LOADS_WITHIN_S)
    running = asyncio.create_task(trial.clients.ask_all(_asks(trial), STREAMS))
    victim = await _busy_replica(trial, trial.rng)
    process = trial.ground.engine_process(victim)
    process.suspend()
    frozen_at = time.monotonic()
    trial.fault(f"SIGSTOP of the engine process of {victim} ({process.pid})")

    async def is_out() -> bool:
        return not await trial.ground.is_ready(victim)

    try:
        await until(is_out, 60)
        out_s = time.monotonic() - frozen_at
        records = await running
        later = await trial.clients.ask_all(_asks(trial, 2), 2)
    finally:
        with suppress(psutil.NoSuchProcess):  # its worker has ended it
            process.resume()
    trial.worst_recovery_s = out_s
    trial.expect("out of rotation", out_s <= OUT_OF_ROTATION_S, f"{out_s:.1f} s after the stop")
    whole = sum(record.outcome == "complete" for record in [*records, *later])
    trial.expect("every stream completes", whole == STREAMS + 2, f"{whole} of {STREAMS + 2}")
    await trial.ground.all_ready(LOADS_WITHIN_S)


async def poison(trial: Trial, size: Size) -> None:
    """A request that two engines died of is not given to a third."""
    await trial.ground.all_ready(LOADS_WITHIN_S)
    ask = replace(_asks(trial, 1)[0], is_stream=False, retries=0)
    asking = asyncio.create_task(trial.clients.ask(ask))
    for number in range(2):
        victim = await _busy_replica(trial, trial.rng)
        trial.ground.engine_process(victim).kill()
        trial.fault(f"kill -9 the engine process of {victim}, death {number + 1} of one request")
    first = await asking
    again = await trial.clients.ask(ask)
    refusals = [(record.last.status, record.last.code) for record in (first, again)]
    trial.expect(
        "in quarantine after two deaths",
        refusals == [(400, "request_quarantined")] * 2,
        f"first and again: {refusals}",
    )
    took_s = again.last.ended_at - again.last.started_at
    trial.expect("then refused at once", took_s < 1.0, f"{1000 * took_s:.0f} ms")
    await trial.ground.all_ready(LOADS_WITHIN_S)
    (other,) = await trial.clients.ask_all(
        [replace(ask, prompt=(ask.prompt + 1) % PROMPTS)], at_once=1
    )
    trial.expect("and others are served", _is_whole(other), other.outcome)


def _is_whole(record: Record) -> bool:
    return record.outcome == "complete"


async def _busy_replica(trial: Trial, rng: random.Random) -> str:
    """A replica whose engine runs something now."""
    found: list[str] = []

    async def is_any_busy() -> bool:
        for name in rng.sample(trial.ground.replica_names, trial.ground.replicas):
            try:
                metric = trial.ground.platform.worker_metric
                if await asyncio.to_thread(metric, name, "vllm:num_requests_running"):
                    found.append(name)
                    return True
            except (AssertionError, httpx.HTTPError):
                continue  # it is starting
        return False

    await until(is_any_busy, LOADS_WITHIN_S, 0.02)
    return found[0]


ENGINE_SCENARIOS: dict[str, Scenario] = {
    each.__name__: each for each in (engine_killed, engine_frozen, poison)
}
