"""Runs scenarios on one platform, from one seed."""

from __future__ import annotations

import random
from collections.abc import Iterable

from tests.chaos.engine_scenarios import ENGINE_SCENARIOS
from tests.chaos.ground import Ground
from tests.chaos.invariants import Finding, check_ledger
from tests.chaos.scenarios import SCENARIOS, Scenario, Size
from tests.chaos.trial import Result, Trial, learn

BY_ENGINE: dict[str, dict[str, Scenario]] = {
    "simulated": SCENARIOS,
    "vllm": ENGINE_SCENARIOS,
}


async def run(
    ground: Ground, names: Iterable[str], size: Size, seed: int
) -> tuple[list[Result], list[Finding]]:
    """Each scenario's result, and what holds of the ledger after all of them."""
    results = []
    await ground.all_ready()
    expected = await learn(ground)
    for name in names:
        # A seed of its own, so that a scenario alone breaks the same things as among others.
        trial = Trial(ground, expected, name, random.Random(f"{seed}:{name}"))
        print(f"{name}", flush=True)
        await BY_ENGINE[ground.engine][name](trial, size)
        await ground.all_ready()
        result = await trial.end()
        print(f"    {'holds' if result.holds else 'DOES NOT HOLD'}: {result.counts}", flush=True)
        results.append(result)
    return results, await check_ledger(ground)
