"""What leaves together, in what order, and for how long it waits: pure, so by property."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.dispatch.batching import (
    EXPECTED_OUTPUT_TOKENS,
    PATIENCE_WAITS,
    PROFILES,
    TIERS,
    BatchQueue,
    Profile,
    Speed,
    wait_s,
)
from inference.wire import Sampling, Submission

UNKNOWN = Speed()


def submission(
    name: str,
    *,
    organization: int = 1,
    tokens: int = 10,
    tier: str = "standard",
    weight: int = 1,
    most: int = 16,
) -> Submission:
    return Submission(
        request_id=name,
        attempt=1,
        gateway="g",
        incarnation="i",
        organization=organization,
        weight=weight,
        prompt_ids=[1] * tokens,
        sampling=Sampling(max_tokens=most),
        cache_salt="",
        submitted_at=0.0,
        tier=tier,
    )


def queued(*submissions: Submission, at: float = 0.0, step: float = 0.001) -> BatchQueue:
    queue = BatchQueue()
    for index, each in enumerate(submissions):
        queue.add(each, at + index * step)
    return queue


def names(queue: BatchQueue, profile: Profile, speed: Speed = UNKNOWN, now: float = 0.1):  # type: ignore[no-untyped-def]
    taken, closed_by = queue.take(profile, speed, now)
    return [waiting.submission.request_id for waiting in taken], closed_by


submissions = st.lists(
    st.builds(
        submission,
        st.uuids().map(str),
        organization=st.integers(1, 4),
        tokens=st.integers(1, 40_000),
        tier=st.sampled_from([*TIERS, "of a newer release"]),
        weight=st.integers(1, 4),
        most=st.integers(1, 4_000),
    ),
    max_size=120,
)
speeds = st.builds(
    Speed,
    st.sampled_from([0.0, 100.0, 50_000.0]),
    st.sampled_from([0.0, 0.02]),
    st.sampled_from([0, 4_000, 1_000_000]),
    st.floats(0, 3),
)
profiles = st.sampled_from(list(PROFILES.values()))


@given(submissions, profiles, speeds)
def test_everything_leaves_once_in_batches_within_every_bound(
    waiting: list[Submission], profile: Profile, speed: Speed
) -> None:
    queue, left = queued(*waiting), []
    while len(queue):
        before = len(queue)
        taken, closed_by = queue.take(profile, speed, now=1.0)
        assert 1 <= len(taken) == before - len(queue) <= profile.requests
        assert closed_by == "empty" or len(queue)
        if len(taken) > 1:
            assert sum(each.prompt_tokens for each in taken) <= profile.tokens
            assert max(each.prompt_tokens for each in taken) <= profile.longest
            assert not speed.kv_tokens or sum(e.kv_tokens for e in taken) <= speed.kv_tokens
        left += [each.submission.request_id for each in taken]

    assert queue.tokens == 0
    assert sorted(left) == sorted(each.request_id for each in waiting)


@given(submissions, profiles)
def test_one_organizations_requests_of_a_class_leave_in_their_order(
    waiting: list[Submission], profile: Profile
) -> None:
    queue, left = queued(*waiting), []
    while len(queue):
        left += [each.submission for each in queue.take(profile, UNKNOWN, now=0.2)[0]]

    for organization in range(1, 5):
        for tier in TIERS:
            mine = [e for e in waiting if (e.organization, e.tier) == (organization, tier)]
            assert [e for e in left if (e.organization, e.tier) == (organization, tier)] == mine


@given(submissions, st.data())
def test_what_is_withdrawn_never_leaves(waiting: list[Submission], data: st.DataObject) -> None:
    queue = queued(*waiting)
    gone = {each.request_id for each in waiting if data.draw(st.booleans())}
    assert all(queue.withdraw(name) for name in gone)
    assert not any(queue.withdraw(name) for name in gone)

    left = set()
    while len(queue):
        left |= set(names(queue, PROFILES["cost"])[0])
    assert left == {each.request_id for each in waiting} - gone and queue.tokens == 0


def test_a_higher_class_leaves_first_and_a_lower_one_does_not_wait_for_ever() -> None:
    profile = PROFILES["latency"]
    ordered = [submission(tier, tier=tier) for tier in reversed(TIERS)]
    assert names(queued(*ordered), profile)[0] == list(TIERS)

    queue = queued(submission("old", tier="batch"))
    late = PATIENCE_WAITS * profile.wait_s + 0.01
    queue.add(submission("new", tier="priority"), late)
    assert names(queue, profile, now=late)[0] == ["old", "new"]


def test_a_flood_shares_each_batch_with_whoever_else_asks() -> None:
    flood = [submission(f"flood-{index}", organization=1) for index in range(100)]
    light = [submission(f"light-{index}", organization=2) for index in range(4)]
    first, _ = names(queued(*flood, *light), PROFILES["latency"])

    assert [name for name in first if name.startswith("light")] == [e.request_id for e in light]


def test_shares_follow_weights_and_tokens_not_requests() -> None:
    heavy = [submission(f"h{i}", organization=1, tokens=300) for i in range(60)]
    small = [submission(f"s{i}", organization=2, tokens=100) for i in range(60)]
    weighted = [submission(f"w{i}", organization=3, tokens=100, weight=2) for i in range(60)]
    queue = queued(*heavy, *small, *weighted)
    given: Counter[str] = Counter()
    for name in names(queue, Profile(60, 0.2, 10**9, 10**9, 9.0, 1.0))[0]:
        given[name[0]] += 300 if name[0] == "h" else 100

    assert given["h"] == pytest.approx(given["s"], abs=300)
    assert given["w"] == pytest.approx(2 * given["s"], abs=300)


def test_coming_back_is_no_credit() -> None:
    queue = queued(*[submission(f"a{i}", organization=1) for i in range(40)])
    names(queue, PROFILES["throughput"])
    for index in range(8):
        queue.add(submission(f"b{index}", organization=2), 1.0)

    first = names(queue, PROFILES["latency"], now=1.0)[0]
    assert Counter(name[0] for name in first) == {"a": 4, "b": 4}


@pytest.mark.parametrize(
    ("speed", "tokens", "expected", "closed_by"),
    [
        (UNKNOWN, 10, 8, "requests"),
        (UNKNOWN, 10_000, 3, "tokens"),
        (UNKNOWN, 20_000, 1, "length"),
        (Speed(kv_tokens=100), 10, 3, "kv"),  # 26 each: 10 and the 16 that it may say
        (Speed(prefill_tokens_per_s=100), 10, 4, "target"),  # 0.1 s each, 0.1 s waited
        (Speed(prefill_tokens_per_s=100, decode_s=0.2), 10, 2, "target"),
    ],
)
def test_each_bound_closes_a_batch(
    speed: Speed, tokens: int, expected: int, closed_by: str
) -> None:
    queue = queued(*[submission(str(index), tokens=tokens) for index in range(20)])
    taken, found = names(queue, PROFILES["latency"], speed, now=0.1)

    assert (len(taken), found) == (expected, closed_by)


def test_the_kv_estimate_is_not_all_that_a_client_may_ask_for() -> None:
    queue = queued(submission("a", most=100_000))
    ((waiting,), _) = queue.take(PROFILES["latency"], UNKNOWN, 0.0)
    assert waiting.kv_tokens == 10 + EXPECTED_OUTPUT_TOKENS


@given(submissions.filter(bool), profiles, speeds, st.floats(0, 4), st.floats(0, 2))
def test_a_wait_is_bounded_and_only_for_company_that_is_expected(
    waiting: list[Submission], profile: Profile, speed: Speed, gap_s: float, later: float
) -> None:
    queue = queued(*waiting, step=0.0)
    found = wait_s(queue, profile, speed, gap_s, later)

    assert 0.0 <= found <= max(0.0, profile.wait_s - later)
    if found:
        assert speed.load > profile.waits_from_load and gap_s <= profile.wait_s
        assert later + found + speed.first_token_s(queue.tokens) <= profile.first_token_s + 1e-9
        assert len(queue) < profile.requests and not queue.is_urgent


def test_an_idle_replica_waits_for_nobody_and_a_full_one_for_whom_it_expects() -> None:
    profile = PROFILES["latency"]
    assert wait_s(queued(submission("a")), profile, Speed(load=1.0), 0.001, 0.0) == 0.0
    full = Speed(load=1.1)
    assert wait_s(queued(submission("a")), profile, full, 0.001, 0.0) == pytest.approx(0.007)
    assert wait_s(queued(submission("a")), profile, full, 0.02, 0.0) == profile.wait_s
    assert wait_s(queued(submission("a")), profile, full, 0.06, 0.0) == 0.0
    urgent = queued(submission("a", tier="priority"))
    assert wait_s(urgent, profile, full, 0.001, 0.0) == 0.0
    slow = Speed(prefill_tokens_per_s=20, load=1.1)  # 10 tokens take the whole 0.5 s
    assert wait_s(queued(submission("a")), profile, slow, 0.001, 0.0) == 0.0
