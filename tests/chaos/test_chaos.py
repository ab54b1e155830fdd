"""The chaos suite in the size of a run in CI; ``make chaos`` is the whole of it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.chaos import report
from tests.chaos.ground import Ground
from tests.chaos.run import run
from tests.chaos.scenarios import SHORT

SEED = 7


@pytest.fixture
async def ground() -> AsyncIterator[Ground]:
    ground = Ground(replicas=2)
    try:
        await ground.start()
        yield ground
    finally:
        await ground.stop()


@pytest.mark.timeout(600)  # a minute on a machine that does nothing else
async def test_faults_at_random_moments_cost_no_client_anything(ground: Ground) -> None:
    """A replica killed and one frozen, Redis cut off and emptied, PostgreSQL crashed."""
    results, overall = await run(ground, ["mixture"], SHORT, SEED)
    print(f"seed {SEED}\n{report.table(results)}\n{report.findings(results, overall)}")
    (mixture,) = results
    assert len(mixture.faults) == 6
    assert mixture.counts["complete"] > 100
    broken = [each for each in [*mixture.findings, *overall] if not each.holds]
    assert broken == []
