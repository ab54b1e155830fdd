"""Which replica runs a sequence: a pure function of what is known of each."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.routing import ReplicaView, Weights, choose, score

WEIGHTS = Weights()
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
    return replace(VIEW, name=name, incarnation=f"life of {name}", **changes)  # type: ignore[arg-type]


def chosen(*replicas: ReplicaView, **options: object) -> str | None:
    asked = {"region": "", "must_stay_in_region": False, "prefix_replica": None, **options}
    found = choose(replicas, weights=WEIGHTS, **asked)  # type: ignore[arg-type]
    return found.name if found else None


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
    relative_cost=st.floats(0, 1),
)


def test_nobody_is_chosen_of_nobody() -> None:
    assert chosen() is None


@pytest.mark.parametrize("state", ["starting", "draining", "gone"])
def test_only_a_ready_replica_is_chosen(state: str) -> None:
    assert chosen(view("a", state=state)) is None
    assert chosen(view("a", state=state), view("b", running=500)) == "b"


@pytest.mark.parametrize(
    "worse",
    [{"running": 5}, {"waiting": 5}, {"in_flight": 5}, {"failures": 1.0}, {"region": "us"}],
)
def test_of_two_alike_the_better_one_is_chosen_in_either_order(worse: dict[str, object]) -> None:
    good, bad = view("good", relative_cost=0.5), view("bad", relative_cost=0.5, **worse)

    assert chosen(good, bad, region="eu") == chosen(bad, good, region="eu") == "good"


def test_the_cheaper_of_two_alike_is_chosen() -> None:
    assert chosen(view("dear"), view("cheap", relative_cost=0.4)) == "cheap"


def test_who_has_the_prefix_is_chosen_unless_it_is_busy() -> None:
    other, cached = view("other"), view("cached", running=3)
    assert chosen(other, cached, prefix_replica="cached") == "cached"

    cached.running = cached.capacity
    assert chosen(other, cached, prefix_replica="cached") == "other"


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
        best = choose(
            replicas, region="", must_stay_in_region=False, prefix_replica=None, weights=WEIGHTS
        )
        assert best is not None
        best.in_flight += 1

    assert [replica.in_flight for replica in replicas] == [10, 10, 10]


@given(st.lists(views, max_size=8), st.sampled_from(["", "eu", "us"]), st.booleans())
def test_whoever_is_chosen_may_be_and_no_other_scores_higher(
    replicas: list[ReplicaView], region: str, stays: bool
) -> None:
    best = choose(
        replicas,
        region=region,
        must_stay_in_region=stays,
        prefix_replica=None,
        weights=WEIGHTS,
    )
    allowed = [
        each
        for each in replicas
        if each.state == "ready" and not (stays and region and each.region != region)
    ]
    assert (best is None) == (not allowed)
    if best is not None:
        assert best in allowed
        highest = max(score(each, region, None, WEIGHTS) for each in allowed)
        assert score(best, region, None, WEIGHTS) == highest
        assert 0 <= highest <= 100
