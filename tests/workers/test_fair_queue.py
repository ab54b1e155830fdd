"""Who is next: shares by weight, no queueing behind a flood, no saving up."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.wire import Submission
from tests.workers.factory import make_submission
from workers.engine.fair_queue import FairQueue

FLOOD, LIGHT = 1, 2


def serve(queue: FairQueue, count: int, output_tokens: int = 10) -> list[Submission]:
    served = []
    for _ in range(count):
        served.append(queue.pop())
        queue.charge_output(served[-1], output_tokens)
    return served


def test_an_empty_queue_has_nothing_to_give() -> None:
    queue = FairQueue()

    assert len(queue) == 0
    with pytest.raises(IndexError):
        queue.pop()


def test_one_organization_is_served_in_its_order() -> None:
    queue = FairQueue()
    pushed = [make_submission() for _ in range(5)]
    for submission in pushed:
        queue.push(submission)

    assert list(queue) == pushed
    assert serve(queue, 5) == pushed


@given(st.integers(0, 300), st.integers(1, 200), st.integers(1, 200))
def test_a_light_organization_waits_for_one_of_a_floods_requests_at_most(
    served_before: int, flood_prompt: int, light_prompt: int
) -> None:
    queue = FairQueue()
    for _ in range(served_before + 100):
        queue.push(make_submission(FLOOD, prompt_tokens=flood_prompt))
    serve(queue, served_before)
    queue.push(make_submission(LIGHT, prompt_tokens=light_prompt))

    assert LIGHT in [submission.organization for submission in serve(queue, 2)]


@given(
    st.dictionaries(st.integers(1, 6), st.integers(1, 8), min_size=2),
    st.integers(1, 50),
    st.integers(0, 50),
)
def test_busy_organizations_get_tokens_in_proportion_to_their_weights(
    weights: dict[int, int], prompt_tokens: int, output_tokens: int
) -> None:
    """Sheng et al., theorem 4.8: backlogged clients differ by no more than one request."""
    queue = FairQueue()
    for organization, weight in weights.items():
        for _ in range(60 * weight):
            queue.push(make_submission(organization, weight=weight, prompt_tokens=prompt_tokens))
    served = Counter(
        submission.organization
        for submission in serve(queue, 20 * sum(weights.values()), output_tokens)
    )

    shares = [served[organization] / weight for organization, weight in weights.items()]
    assert max(shares) - min(shares) <= 1.0 + 1e-9


def test_who_comes_back_from_idling_has_saved_nothing_up() -> None:
    queue = FairQueue()
    queue.push(make_submission(LIGHT))
    serve(queue, 1)  # then LIGHT is idle while the flood is served
    for _ in range(100):
        queue.push(make_submission(FLOOD))
    serve(queue, 50)
    for _ in range(50):
        queue.push(make_submission(LIGHT))

    served = Counter(each.organization for each in serve(queue, 20))
    assert abs(served[FLOOD] - served[LIGHT]) <= 1


def test_long_output_counts_though_it_comes_after_the_choice() -> None:
    queue = FairQueue()
    for _ in range(30):
        queue.push(make_submission(FLOOD))
        queue.push(make_submission(LIGHT))
    served: Counter[int] = Counter()
    for _ in range(24):
        submission = queue.pop()
        served[submission.organization] += 1
        queue.charge_output(submission, 100 if submission.organization == FLOOD else 10)

    assert served[LIGHT] > 3 * served[FLOOD]


def test_what_is_removed_is_never_served_and_the_rest_keeps_its_order() -> None:
    queue = FairQueue()
    submissions = [make_submission(organization) for organization in (1, 2) for _ in range(3)]
    for submission in submissions:
        queue.push(submission)
    gone = [submissions[1], *submissions[3:]]

    assert queue.remove({each.engine_id for each in gone} | {"req-unknown#1"}) == gone
    assert len(queue) == 2
    assert serve(queue, 2) == [submissions[0], submissions[2]]


def test_an_attempt_is_removed_by_its_own_name_only() -> None:
    queue = FairQueue()
    submission = make_submission(attempt=2)
    queue.push(submission)

    assert queue.remove({f"{submission.request_id}#1"}) == []
    assert queue.remove({f"{submission.request_id}#2"}) == [submission]


def test_history_is_forgotten_when_nobody_waits() -> None:
    """Or the table of counters would grow with every organization that ever came."""
    queue = FairQueue()
    for organization in range(1_000):
        queue.push(make_submission(organization))
        serve(queue, 1)

    assert len(queue._served) <= 2


@given(st.lists(st.one_of(st.integers(1, 5), st.none())))
def test_the_length_is_the_number_that_can_be_popped(steps: list[int | None]) -> None:
    queue, expected = FairQueue(), 0
    for organization in steps:
        if organization is not None:
            queue.push(make_submission(organization))
            expected += 1
        elif expected:
            queue.pop()
            expected -= 1
        assert len(queue) == len(list(queue)) == expected
