"""Who is next: shares by weight, no queueing behind a flood, no saving up."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.wire import Submission
from tests.workers.factory import make_submission
from workers.engine.fair_queue import (
    COUNTERS_KEPT,
    GUARANTEED_SHARE,
    OUTPUT_COST,
    PROMPT_COST,
    Backlog,
    FairQueue,
)

FLOOD, LIGHT = 1, 2


def serve(queue: FairQueue, count: int, output_tokens: int = 10) -> list[Submission]:
    served = []
    for _ in range(count):
        served.append(queue.pop().submission)
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

    assert [waiting.submission for waiting in queue] == pushed
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
        submission = queue.pop().submission
        served[submission.organization] += 1
        queue.charge_output(submission, 100 if submission.organization == FLOOD else 10)

    assert served[LIGHT] > 3 * served[FLOOD]


def test_what_is_removed_is_never_served_and_the_rest_keeps_its_order() -> None:
    queue = FairQueue()
    submissions = [make_submission(organization) for organization in (1, 2) for _ in range(3)]
    for submission in submissions:
        queue.push(submission)
    gone = [submissions[1], *submissions[3:]]

    removed = queue.remove({each.engine_id for each in gone} | {"req-unknown#1"})
    assert {each.engine_id for each in removed} == {each.engine_id for each in gone}
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

    assert len(queue._classes["standard"]._served) <= 2


def test_history_is_bounded_while_somebody_always_waits() -> None:
    queue = FairQueue()
    for organization in range(10, 6_000):
        for _ in range(2):
            queue.push(make_submission(FLOOD))
        queue.push(make_submission(organization))
        serve(queue, 2, output_tokens=0)

    own = queue._classes["standard"]
    assert len(own._served) <= COUNTERS_KEPT and len(own._heap) <= 20


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


# --- Classes -----------------------------------------------------------------------------


def test_a_higher_class_goes_first() -> None:
    queue = FairQueue()
    for tier in ("batch", "flex", "standard", "priority"):
        queue.push(make_submission(tier=tier))

    assert [each.tier for each in serve(queue, 4)] == ["priority", "standard", "flex", "batch"]


def test_an_unknown_class_is_standard() -> None:
    queue = FairQueue()
    queue.push(make_submission(tier="flex"))
    queue.push(make_submission(tier="imaginary"))

    assert serve(queue, 1)[0].tier == "imaginary"


TIERS = tuple(GUARANTEED_SHARE)


@given(
    st.sampled_from(TIERS[1:]),
    st.sampled_from(TIERS),
    st.lists(st.tuples(st.integers(1, 400), st.integers(0, 400)), min_size=50, max_size=300),
    st.tuples(st.integers(1, 400), st.integers(0, 400)),
)
def test_no_class_starves(
    low: str, high: str, flood: list[tuple[int, int]], sizes: tuple[int, int]
) -> None:
    """The bound that the module states, against a flood of any class in any sizes."""
    queue = FairQueue()
    for _ in range(len(flood)):
        queue.push(make_submission(LIGHT, prompt_tokens=sizes[0], tier=low), sizes[1])
    own, total, largest = 0.0, 0.0, 0.0
    for prompt_tokens, output_tokens in flood:
        queue.push(make_submission(FLOOD, prompt_tokens=prompt_tokens, tier=high), output_tokens)
        waiting = queue.pop()
        total += waiting.cost
        largest = max(largest, waiting.cost)
        if waiting.submission.organization == LIGHT:
            own += waiting.cost

        others = total - own
        cost = sizes[0] * PROMPT_COST + sizes[1] * OUTPUT_COST
        if low != high:
            assert own >= GUARANTEED_SHARE[low] * others - cost - GUARANTEED_SHARE[low] * largest


def test_a_class_that_did_not_wait_is_owed_nothing() -> None:
    queue = FairQueue()
    for _ in range(200):
        queue.push(make_submission(FLOOD))
    serve(queue, 150)
    queue.push(make_submission(LIGHT, tier="batch"))

    assert {each.organization for each in serve(queue, 20)} == {FLOOD}


@given(st.data())
def test_every_sequence_is_given_out_once_whatever_comes_and_goes(data: st.DataObject) -> None:
    queue, pushed, out = FairQueue(), {}, []
    for _ in range(data.draw(st.integers(0, 60))):
        if pushed and data.draw(st.booleans()):
            out.append(queue.pop().submission)
        elif pushed and data.draw(st.integers(0, 4)) == 0:
            out += queue.remove({data.draw(st.sampled_from(sorted(pushed)))})
        else:
            submission = make_submission(
                data.draw(st.integers(1, 5)),
                weight=data.draw(st.integers(1, 3)),
                prompt_tokens=data.draw(st.integers(1, 50)),
                tier=data.draw(st.sampled_from(TIERS)),
            )
            pushed[submission.engine_id] = submission
            queue.push(submission, data.draw(st.integers(0, 50)))
        for submission in out:
            pushed.pop(submission.engine_id, None)
    while len(queue):
        out.append(queue.pop().submission)

    ids = [each.engine_id for each in out]
    assert len(ids) == len(set(ids)) and set(pushed) <= set(ids)
    for each in queue._classes.values():
        assert each.backlog == Backlog() and not each.weights


def test_equals_get_equal_parts() -> None:
    """Jain's index of tokens served to organizations with the same demand."""
    queue, served = FairQueue(), Counter()
    for organization in range(50):
        for number in range(100):
            queue.push(make_submission(organization, prompt_tokens=1 + (number * 37) % 500))
    for _ in range(1_500):
        submission = queue.pop().submission
        output_tokens = len(submission.prompt_ids) % 90
        queue.charge_output(submission, output_tokens)
        served[submission.organization] += len(submission.prompt_ids) + 2 * output_tokens

    assert jain(list(served.values())) >= 0.98 and len(served) == 50


def jain(parts: list[int]) -> float:
    return sum(parts) ** 2 / (len(parts) * sum(part * part for part in parts))


def test_ten_thousand_organizations_cost_no_more_to_choose_from() -> None:
    """By comparisons of the heap's, not by the clock: a pop is O(log n)."""
    visited = []
    for organizations in (100, 10_000):
        queue = FairQueue()
        for organization in range(organizations):
            queue.push(make_submission(organization))
            queue.push(make_submission(organization))
        own = queue._classes["standard"]
        counted = own._served = _Counted(own._served)
        for _ in range(100):
            queue.charge_output(queue.pop().submission, 10)
        visited.append(counted.looks)

    assert visited[1] <= 1.5 * visited[0]


class _Counted(dict[int, float]):
    looks = 0

    def get(self, *args: object) -> object:  # type: ignore[override]
        self.looks += 1
        return super().get(*args)  # type: ignore[call-overload]
