"""Fairness in time: a replica with a real engine's timing, floods, and recorded traffic."""

from __future__ import annotations

import csv
import gzip
import os
import random
from collections import Counter
from pathlib import Path
from statistics import mean

import pytest

from tests.harness.services import CHECKOUT
from tests.workers.simulation import Arrival, Replica, Served, jain
from workers.engine.fair_queue import FairQueue, Waiting
from workers.engine.intake import MOST_WAIT_S
from workers.engines.simulated import Profile

PROFILE = Profile(prefill_tokens_per_s=8_000, decode_ms=18.0, decode_ms_per_running=0.15)
CAPACITY = 64
FLOOD, LIGHT = 1, 2
LENGTH_S = 120.0
TRACES = Path(os.environ.get("SLUICE_DATA_DIR", CHECKOUT.parent / "shared" / "data")) / "traces"


def traffic(
    organization: int, rate: float, *, seed: int = 1, since: float = 0.0, tier: str = "standard"
) -> list[Arrival]:
    """Poisson arrivals of chats: 200 to 800 tokens of prompt, 50 to 150 of output."""
    draw, at, arrivals = random.Random(f"{organization} {seed}"), since, []
    while (at := at + draw.expovariate(rate)) < LENGTH_S:
        prompt, output = draw.randint(200, 800), draw.randint(50, 150)
        arrivals.append(Arrival(at, organization, prompt, output, tier))
    return arrivals


def run(arrivals: list[Arrival], profile: Profile = PROFILE) -> tuple[Replica, list[Served]]:
    replica = Replica(profile, CAPACITY)
    return replica, replica.serve(arrivals, until=LENGTH_S)


def first_token_s(served: list[Served], organization: int = LIGHT) -> float:
    waits = [
        each.first_token_s
        for each in served
        if each.arrival.organization == organization and each.first_at is not None
    ]
    assert len(waits) > 30
    return mean(waits)


# Alone the engine would be idle most of the time: its steps are short, and there is no
# batch to join. What a light organization is owed is what it has beside well-behaved ones.
def neighbours(rate: float) -> list[Arrival]:
    return [each for number in range(8) for each in traffic(10 + number, rate / 8)]


def test_beside_a_flood_a_light_organization_waits_as_beside_good_neighbours() -> None:
    busy, served = run(traffic(LIGHT, 0.5) + neighbours(rate=10))
    assert busy.busy_s > 0.95 * LENGTH_S
    alone_s = first_token_s(served)
    for rate in (20, 80):
        _, served = run(traffic(LIGHT, 0.5) + traffic(FLOOD, rate))
        assert first_token_s(served) <= 1.5 * alone_s
        light = [each for each in served if each.arrival.organization == LIGHT]
        assert not any(each.refused for each in light)


def test_control_without_the_fair_queue_a_flood_is_everybodys_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arrivals = traffic(LIGHT, 0.5) + traffic(FLOOD, 20)
    _, fair = run(arrivals)

    def oldest(queue: FairQueue, without: int | None = None) -> Waiting | None:
        return min(queue, key=lambda each: each.since, default=None)

    monkeypatch.setattr(FairQueue, "peek", oldest)
    _, served = run(arrivals)

    assert first_token_s(served) > 10 * first_token_s(fair)


@pytest.mark.parametrize("organizations", [4, 32])
def test_equals_get_equal_parts_of_an_overloaded_engine(organizations: int) -> None:
    arrivals = [
        each
        for number in range(organizations)
        for each in traffic(number, 60 / organizations, seed=number)
    ]
    replica, _ = run(arrivals)

    parts = replica.tokens_by_organization.values()
    assert len(parts) == organizations and jain(parts) >= 0.98


def test_weights_divide_an_overloaded_engine() -> None:
    arrivals = [
        Arrival(each.at, number, each.prompt_tokens, each.output_tokens, weight=number)
        for number in (1, 2, 4)
        for each in traffic(number, 20, seed=number)
    ]
    replica, _ = run(arrivals)

    tokens = replica.tokens_by_organization
    assert tokens[2] / tokens[1] == pytest.approx(2, rel=0.15)
    assert tokens[4] / tokens[1] == pytest.approx(4, rel=0.15)


def test_every_class_goes_on_under_a_flood_of_the_one_above() -> None:
    tiers = ("priority", "standard", "flex", "batch")
    arrivals = [
        each
        for number, tier in enumerate(tiers)
        for each in traffic(number, 40, seed=number, tier=tier)
    ]
    _, served = run(arrivals)
    begun = Counter(each.arrival.tier for each in served if each.started_at is not None)

    assert begun["priority"] > begun["standard"] > begun["flex"] > begun["batch"] > 0
    assert begun["priority"] > 0.6 * begun.total()


def test_priority_hardly_notices_a_flood_of_batches() -> None:
    _, alone = run(traffic(LIGHT, 2.0, tier="priority") + neighbours(rate=10))
    _, beside = run(traffic(LIGHT, 2.0, tier="priority") + traffic(FLOOD, 50, tier="batch"))

    assert first_token_s(beside) <= 1.5 * first_token_s(alone)


@pytest.mark.parametrize("rate", [20, 60])
def test_who_is_taken_under_overload_waits_no_longer_than_promised(rate: float) -> None:
    """Several times what the engine can do: the rest is refused at once, and it stays busy."""
    arrivals = [each for number in range(8) for each in traffic(number, rate / 8, seed=number)]
    replica, served = run(arrivals)
    taken = [each for each in served if each.started_at is not None]

    refused = [each for each in served if each.refused]
    assert len(refused) > 0.2 * len(served)
    waits = sorted(each.queue_s for each in taken)
    # The prediction is one of means: a quarter longer happens, twice as long does not.
    assert waits[int(0.95 * len(waits))] <= 1.3 * MOST_WAIT_S["standard"]
    assert waits[-1] <= 2.0 * MOST_WAIT_S["standard"]
    assert replica.busy_s > 0.97 * LENGTH_S


def test_the_cache_holds_what_runs() -> None:
    """Its estimates keep the engine from having to put sequences out."""
    profile = Profile(8_000, 18.0, 0.15, kv_tokens=16_000)
    replica = Replica(profile, CAPACITY)
    fullest = 0.0
    stepped = replica.engine._on_step

    def note(step: object) -> None:
        nonlocal fullest
        stepped(step)  # type: ignore[arg-type]
        used = sum(
            len(each.submission.prompt_ids) + each.made for each in replica.engine._live.values()
        )
        fullest = max(fullest, used / profile.kv_tokens)

    replica.engine._on_step = note  # type: ignore[assignment]
    replica.serve(traffic(FLOOD, 20) + traffic(LIGHT, 1.0), until=LENGTH_S)

    assert 0.7 < fullest <= 1.0


# --- Recorded traffic --------------------------------------------------------------------


def recorded(name: str, seconds: float) -> list[tuple[float, str, int, int]]:
    path = TRACES / name
    if not path.exists():
        pytest.skip(f"no recorded traffic: {name} is not in SLUICE_DATA_DIR/traces")
    with gzip.open(path, "rt") as file:
        rows = [
            (float(row["t_s"]), row["tenant"], int(row["input_tokens"]), int(row["output_tokens"]))
            for row in csv.DictReader(file)
        ]
    return [row for row in rows if row[0] < seconds]


def test_recorded_tenants_wait_no_longer_for_a_noisy_neighbour() -> None:
    """One makes four fifths of the traffic; alone is the same hour without it."""
    rows = recorded("derived_servegen_m-large_noisy_neighbour_1h.csv.gz", LENGTH_S * 5)
    noisy = Counter(row[1] for row in rows).most_common(1)[0][0]
    numbers = {tenant: number for number, tenant in enumerate(sorted({row[1] for row in rows}))}

    def waits(with_noise: bool) -> float:
        arrivals = [
            Arrival(at, numbers[tenant], prompt, output)
            for at, tenant, prompt, output in rows
            if with_noise or tenant != noisy
        ]
        served = Replica(PROFILE, CAPACITY).serve(arrivals, until=LENGTH_S * 5)
        light = [each for each in served if each.arrival.organization != numbers[noisy]]
        assert not any(each.refused for each in light)
        return mean(each.first_token_s for each in light if each.first_at is not None)

    assert waits(with_noise=True) <= 1.5 * waits(with_noise=False)
