"""Which replica runs a sequence: a pure function of what is known of each."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.circuit import OPEN_S, OPENS_AFTER, Circuit
from inference.models import RoutingPolicy
from inference.registry import Routing
from inference.routing import (
    SAMPLED,
    SCORED_WHOLE,
    SLOW_START_S,
    Ask,
    Choice,
    Pool,
    ReplicaView,
    Weights,
    base_of,
    choose,
    score,
)

WEIGHTS = Weights()
NOW = 1_000.0
VIEW = ReplicaView(
    name="chat-1",
    incarnation="life-1",
    deployment=1,
    version=1,
    region="eu",
    state="ready",
    running=0,
    waiting=0,
    capacity=10,
    seen_at=0.0,
)


def view(name: str, **changes: object) -> ReplicaView:
    new = {"incarnation": f"life of {name}", "circuit": Circuit(), **changes}
    return replace(VIEW, name=name, **new)  # type: ignore[arg-type]


def pools(*replicas: ReplicaView) -> list[Pool]:
    """One for each region, as deployments are."""
    regions = {replica.region: None for replica in replicas}
    return [Pool([r for r in replicas if r.region == region], region) for region in regions]


def decide(*replicas: ReplicaView, **options: object) -> Choice | None:
    by_name = {replica.name: replica for replica in replicas}
    ask = Ask(**options)  # type: ignore[arg-type]
    return choose(pools(*replicas), ask, WEIGHTS, NOW, by_name.get(ask.prefix_replica))


def chosen(*replicas: ReplicaView, **options: object) -> str | None:
    found = decide(*replicas, **options)
    return found.replica.name if found else None


views = st.builds(
    view,
    st.text("abc", min_size=1, max_size=3),
    region=st.sampled_from(["eu", "us", ""]),
    state=st.sampled_from(["ready", "starting", "draining", "gone"]),
    running=st.integers(0, 40),
    waiting=st.integers(0, 40),
    in_flight=st.integers(0, 80),
    capacity=st.integers(0, 20),
    failures=st.floats(0, 50),
    speed=st.floats(0.1, 1),
    is_proven=st.booleans(),
)


def test_nobody_is_chosen_of_nobody() -> None:
    assert chosen() is None
    assert choose([Pool([])], Ask(), WEIGHTS, NOW) is None


@pytest.mark.parametrize("state", ["starting", "draining", "gone"])
def test_only_a_ready_replica_is_chosen(state: str) -> None:
    assert chosen(view("a", state=state)) is None
    assert chosen(view("a", state=state), view("b", running=500)) == "b"


@pytest.mark.parametrize(
    "worse",
    [
        {"running": 5},
        {"waiting": 5},
        {"in_flight": 5},
        {"failures": 1.0},
        {"speed": 0.5},
        {"region": "us"},
    ],
)
def test_of_two_alike_the_better_one_is_chosen_in_either_order(worse: dict[str, object]) -> None:
    good, bad = view("good"), view("bad", **worse)

    assert chosen(good, bad, region="eu") == chosen(bad, good, region="eu") == "good"


def test_the_cheaper_of_two_deployments_is_chosen() -> None:
    dear, cheap = Pool([view("dear")]), Pool([view("cheap")], relative_cost=0.4)
    for each in ([dear, cheap], [cheap, dear]):
        found = choose(each, Ask(), WEIGHTS, NOW)
        assert found is not None and found.replica.name == "cheap"
        assert each[found.pool] is cheap


def test_who_has_the_prefix_is_chosen_unless_it_is_busy() -> None:
    other, cached = view("other"), view("cached", running=3)
    known = {"prefix_replica": "cached", "prefix_share": 0.8}
    assert chosen(other, cached, **known) == "cached"
    # A little of the prompt is worth less than a free place.
    assert chosen(other, cached, prefix_replica="cached", prefix_share=0.1) == "other"

    cached.running = cached.capacity
    assert chosen(other, cached, **known) == "other"


def test_a_region_is_preferred_and_residency_is_demanded() -> None:
    near, far = view("near", region="eu", running=4), view("far", region="us")
    assert chosen(near, far, region="eu") == "near"
    assert chosen(far, region="eu") == "far"

    assert chosen(near, far, region="eu", must_stay_in_region=True) == "near"
    assert chosen(far, region="eu", must_stay_in_region=True) is None


def test_an_excluded_life_is_not_chosen_and_the_next_life_is() -> None:
    replica = view("a")
    excluded = frozenset({replica.incarnation})
    assert chosen(replica, excluded=excluded) is None

    assert chosen(replace(replica, incarnation="next"), excluded=excluded) == "a"


def test_a_burst_spreads_before_any_heartbeat_tells_of_it() -> None:
    replicas = [view("a"), view("b"), view("c")]
    for _ in range(30):
        best = decide(*replicas)
        assert best is not None
        best.replica.in_flight += 1

    assert [replica.in_flight for replica in replicas] == [10, 10, 10]


def test_two_alike_are_not_always_the_same_one() -> None:
    assert {chosen(view("a"), view("b")) for _ in range(100)} == {"a", "b"}


def test_a_new_replica_gets_a_growing_share() -> None:
    old = view("old", running=5)
    new = view("new", ready_at=NOW - 0.2 * SLOW_START_S, running=2)
    assert chosen(old, new) == "old"  # two of ten count as ten of ten at a fifth of the time
    assert chosen(old, replace(new, ready_at=NOW - SLOW_START_S)) == "new"


def test_an_engine_that_proved_nothing_lately_is_the_last_resort() -> None:
    dead, busy = view("dead", is_proven=False), view("busy", running=500)
    assert chosen(dead, busy) == "busy"
    only = decide(dead)
    assert only is not None and (only.replica, only.how) == (dead, "last_resort")


# --- Circuits ------------------------------------------------------------------------------


def opened(now: float) -> Circuit:
    circuit = Circuit()
    for _ in range(OPENS_AFTER):
        assert circuit.is_closed
        circuit.fail(now)
    return circuit


def test_an_open_circuit_gets_nothing_then_one_request_and_its_end_decides() -> None:
    bad, good = view("bad", circuit=opened(NOW)), view("good", running=9)
    assert chosen(bad, good) == "good"
    assert chosen(bad) == "bad"  # nobody else lives

    bad.circuit.opened_until = NOW  # its time has come
    trial = decide(good, bad)
    assert trial is not None and (trial.replica.name, trial.how) == ("bad", "trial")
    bad.circuit.try_once(NOW)
    assert chosen(bad, good) == "good"  # one at a time

    bad.circuit.fail(NOW)
    assert bad.circuit.open_s == 2 * OPEN_S[0] and not bad.circuit.wants_trial(NOW + OPEN_S[0])
    assert bad.circuit.wants_trial(NOW + 2 * OPEN_S[0])
    bad.circuit.succeed()
    assert chosen(bad, good) == "bad" and bad.circuit == Circuit()


def test_failures_of_what_was_under_way_do_not_lengthen_it_and_success_forgives() -> None:
    circuit = opened(NOW)
    until = circuit.opened_until
    circuit.fail(NOW + 0.5)
    assert circuit.opened_until == until

    circuit = Circuit()
    for _ in range(10):
        circuit.fail(NOW)
        circuit.succeed()
    assert circuit.is_closed


def test_a_trial_that_nobody_ends_is_made_again() -> None:
    circuit = opened(NOW)
    late = circuit.opened_until
    circuit.try_once(late)
    assert not circuit.wants_trial(late + 1)
    assert circuit.wants_trial(late + 31)


def test_how_long_it_stays_open_is_bounded() -> None:
    circuit, now = opened(NOW), NOW
    for _ in range(20):
        now = circuit.opened_until
        circuit.try_once(now)
        circuit.fail(now)
    assert circuit.opened_until - now == OPEN_S[1]


# --- Of many -------------------------------------------------------------------------------


def test_of_many_a_few_are_looked_at_and_the_one_with_the_prefix_is_among_them() -> None:
    replicas = [view(f"r{index}", running=5) for index in range(1_000)]
    found = decide(*replicas, prefix_replica="r77", prefix_share=1.0)
    assert found is not None and found.how == "sampled"
    assert len(found.considered) == SAMPLED + 1 and found.replica.name == "r77"


def test_the_few_good_ones_of_many_are_found() -> None:
    replicas = [view(f"r{index}", state="draining") for index in range(500)]
    replicas[123].state, replicas[321].state = "ready", "ready"
    replicas[321].is_proven = False
    for _ in range(20):
        assert chosen(*replicas) == "r123"


def test_drawing_a_few_spreads_nearly_as_evenly_as_scoring_all() -> None:
    """Each of 200 gets 20 on average. All scored, nobody is above 20; drawn, hardly anybody."""
    replicas = [view(f"r{index}", capacity=64) for index in range(200)]
    pool = [Pool(replicas, "eu")]
    for _ in range(200 * 20):
        found = choose(pool, Ask(), WEIGHTS, NOW)
        assert found is not None
        found.replica.in_flight += 1
    counts = [replica.in_flight for replica in replicas]

    assert max(counts) <= 22 and min(counts) >= 17


def test_drawing_a_few_finds_a_free_one_when_nine_of_ten_are_full() -> None:
    replicas = [view(f"r{i}", running=0 if i % 10 == 0 else 20) for i in range(1_000)]
    pool = [Pool(replicas, "eu")]
    found = [choose(pool, Ask(), WEIGHTS, NOW) for _ in range(1_000)]
    free = sum(each is not None and each.replica.running == 0 for each in found)

    assert free > 500  # 1 - 0.9^8 = 57 %; blind choice would find 10 %


@given(st.lists(views, max_size=SCORED_WHOLE), st.sampled_from(["", "eu", "us"]), st.booleans())
def test_whoever_is_chosen_may_be_and_no_other_scores_higher(
    replicas: list[ReplicaView], region: str, stays: bool
) -> None:
    best = decide(*replicas, region=region, must_stay_in_region=stays)
    allowed = [
        each
        for each in replicas
        if each.state == "ready" and not (stays and region and each.region != region)
    ]
    assert (best is None) == (not allowed)
    if best is None:
        return
    proven = [each for each in allowed if each.is_proven]
    assert best.replica in (proven or allowed)
    ask = Ask(region=region)
    scores = {
        id(each): score(each, ask, base_of(Pool([], each.region), ask, WEIGHTS), WEIGHTS, NOW).score
        for each in proven or allowed
    }
    assert scores[id(best.replica)] == max(scores.values()) <= 100


def test_a_policy_without_changes_is_the_default() -> None:
    policy = RoutingPolicy()
    assert Weights(**{name: getattr(policy, name) for name in Weights.__slots__}) == WEIGHTS
    assert policy.longest_wait_s == Routing().longest_wait_s
