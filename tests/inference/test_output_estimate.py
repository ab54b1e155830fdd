"""How long an answer will be: learned for each key, bounded, and better than any fixed guess."""

from __future__ import annotations

import asyncio
import csv
import gzip
import os
import random
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.actions import record_usage
from inference import output_estimate
from inference.output_estimate import LEAST_ANSWERS, QUANTILE, History, OutputEstimate
from tests.billing.factory import MODEL, make_report, make_tenant
from tests.inference.callers import eventually
from tests.tenants.database import in_thread

CHECKOUT = Path(__file__).resolve().parents[2]
TRACES = Path(os.environ.get("SLUICE_DATA_DIR", CHECKOUT.parent / "shared" / "data")) / "traces"


def estimate_of(lengths: list[int]) -> int | None:
    history = History()
    for tokens in lengths:
        history.add(tokens)
    return history.estimate()


def test_little_is_no_history() -> None:
    assert estimate_of([100] * (LEAST_ANSWERS - 1)) is None
    assert estimate_of([100] * LEAST_ANSWERS) is not None


@given(st.lists(st.integers(0, 200_000), min_size=LEAST_ANSWERS, max_size=60))
def test_an_estimate_is_the_quantile_to_the_width_of_a_bucket(lengths: list[int]) -> None:
    estimate = estimate_of(lengths)
    assert estimate is not None

    ordered = sorted(lengths)
    # The newest weigh a little more, and eight answers may not be counted in yet.
    counted = ordered[int(len(ordered) * (QUANTILE - 0.25))], ordered[-1]
    assert counted[0] / 1.2 - 1 <= estimate <= counted[1] * 1.2 + 1


def test_a_key_that_changes_its_ways_is_followed() -> None:
    history = History()
    for _ in range(2_000):
        history.add(4_000)
    for _ in range(800):
        history.add(50)

    assert (history.estimate() or 0) < 60


def test_weights_never_overflow() -> None:
    history = History()
    for number in range(60_000):
        history.add(number % 100)

    assert 85 <= (history.estimate() or 0) <= 105


def test_a_new_key_is_answered_by_its_model_and_a_new_model_by_nothing() -> None:
    estimates = OutputEstimate()
    assert estimates.tokens(1, 7, "tiny") is None
    for _ in range(LEAST_ANSWERS):
        estimates.learn(7, "tiny", 64)

    assert estimates.tokens(1, 7, "tiny") == estimates.tokens(1, 8, "tiny") in (63, 64)
    assert estimates.tokens(1, 7, "other") is None


async def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output_estimate, "HISTORIES", 10)
    monkeypatch.setattr(output_estimate, "MOST_SEEDINGS", 5)
    estimates = OutputEstimate()
    for key in range(100):
        estimates.tokens(1, key, "tiny")
        estimates.learn(key, f"model-{key}", 10)

    assert len(estimates._of_key) == len(estimates._of_model) == 10
    assert estimates._unread.qsize() == 5


@pytest.mark.django_db(transaction=True)
async def test_a_key_that_is_new_here_is_read_from_the_past_beside_its_requests() -> None:
    tenant = await in_thread(make_tenant)
    reports = [make_report(tenant, completion_tokens=32) for _ in range(LEAST_ANSWERS)]
    await in_thread(record_usage, reports)
    estimates = OutputEstimate()
    who = (tenant.organization.pk, tenant.key.pk, MODEL)
    task = asyncio.create_task(estimates.run())
    assert estimates.tokens(*who) is None  # at once, whatever the database does
    await eventually(lambda: estimates.tokens(*who) in (31, 32), 5)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


# --- Calibration on recorded traffic -------------------------------------------------------


def trace(name: str) -> list[tuple[str, int]]:
    """(tenant, output tokens) in the order of arrival."""
    path = TRACES / name
    if not path.is_file():
        pytest.skip(f"no recorded traffic: {name} is not in SLUICE_DATA_DIR/traces")
    with gzip.open(path, "rt") as file:
        rows = csv.DictReader(file)
        if "tenant" in (rows.fieldnames or ()):
            return [(row["tenant"], int(row["output_tokens"])) for row in rows]
        return [("all", int(row["GeneratedTokens"])) for row in rows]


def outcome(estimates: list[int], lengths: list[int]) -> tuple[int, float]:
    """Tokens reserved, and the share of answers that were longer than reserved."""
    pairs = list(zip(estimates, lengths, strict=True))
    return sum(estimates), sum(length > estimate for estimate, length in pairs) / len(pairs)


@pytest.mark.parametrize(
    ("name", "saved"),
    [
        ("derived_servegen_m-large_typical_1h.csv.gz", 0.4),
        ("derived_servegen_m-large_noisy_neighbour_1h.csv.gz", 0.75),
        ("azure_llm_2023_conv.csv.gz", -0.05),  # one nameless caller: nothing to tell apart
    ],
)
def test_less_is_reserved_than_by_the_best_fixed_guess(name: str, saved: float) -> None:
    """Against the guess that, in hindsight, as many answers exceed as exceeded ours."""
    requests = trace(name)
    histories: dict[str, History] = defaultdict(History)
    everybody = History()
    ours: list[int] = []
    for tenant, length in requests:
        known = histories[tenant].estimate()
        ours.append(known if known is not None else everybody.estimate() or 256)
        histories[tenant].add(length)
        everybody.add(length)
    lengths = [length for _, length in requests]
    reserved, exceeded = outcome(ours, lengths)
    guess = sorted(lengths)[min(len(lengths) - 1, int(len(lengths) * (1 - exceeded)))]
    static, _ = outcome([guess] * len(lengths), lengths)

    assert exceeded <= 0.13
    assert reserved <= (1 - saved) * static, f"saved {1 - reserved / static:.1%} at {exceeded:.1%}"


def test_callers_who_differ_need_half_of_what_one_guess_for_all_needs() -> None:
    """The same without recorded traffic: a classifier, a chat and a writer."""
    random.seed(4)
    means = {"labels": 4, "chat": 180, "essays": 1_500}
    requests = [
        (who, max(1, round(random.lognormvariate(0, 0.4) * means[who])))
        for who in random.choices(list(means), weights=(60, 30, 10), k=8_000)
    ]
    histories: dict[str, History] = defaultdict(History)
    ours = []
    for who, length in requests:
        ours.append(histories[who].estimate() or 256)
        histories[who].add(length)
    lengths = [length for _, length in requests]
    reserved, exceeded = outcome(ours, lengths)
    guess = sorted(lengths)[int(len(lengths) * (1 - exceeded))]

    assert exceeded < 0.13
    assert reserved < outcome([guess] * len(lengths), lengths)[0] / 2
