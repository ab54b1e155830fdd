"""Who is next: a virtual token counter for each organization.

Sheng et al., "Fairness in Serving Large Language Models", OSDI 2024, algorithm 2:
the organization served least so far goes first; an organization that comes back
from idling is lifted to the least active counter, so that it cannot save up. A
counter grows by tokens divided by the plan's weight; output costs twice a prompt
token, the paper's ratio. Pure, no IO.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import chain

from inference.wire import Submission

PROMPT_COST = 1.0
OUTPUT_COST = 2.0


class FairQueue:
    def __init__(self) -> None:
        self._waiting: dict[int, deque[Submission]] = {}
        self._served: dict[int, float] = {}
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Submission]:
        return chain.from_iterable(self._waiting.values())

    def push(self, submission: Submission) -> None:
        organization = submission.organization
        queue = self._waiting.get(organization)
        if queue is None:
            queue = self._waiting[organization] = deque()
            self._lift(organization)
        queue.append(submission)
        self._size += 1

    def pop(self) -> Submission:
        """The oldest submission of the organization served least. IndexError when empty."""
        if not self._waiting:
            raise IndexError("the queue is empty")
        organization = min(self._waiting, key=self._served.__getitem__)
        queue = self._waiting[organization]
        submission = queue.popleft()
        if not queue:
            del self._waiting[organization]
        self._size -= 1
        self.charge(submission, len(submission.prompt_ids) * PROMPT_COST)
        return submission

    def charge_output(self, submission: Submission, tokens: int) -> None:
        self.charge(submission, tokens * OUTPUT_COST)

    def charge(self, submission: Submission, cost: float) -> None:
        organization = submission.organization
        self._served[organization] = self._served.get(organization, 0.0) + cost / max(
            1, submission.weight
        )

    def remove(self, engine_ids: set[str]) -> list[Submission]:
        """Take out submissions that wait; those already popped are not here."""
        removed: list[Submission] = []
        for organization in list(self._waiting):
            kept: deque[Submission] = deque()
            for submission in self._waiting[organization]:
                (removed if submission.engine_id in engine_ids else kept).append(submission)
            if kept:
                self._waiting[organization] = kept
            else:
                del self._waiting[organization]
        self._size -= len(removed)
        return removed

    def _lift(self, organization: int) -> None:
        others = [self._served[other] for other in self._waiting if other != organization]
        floor = min(others) if others else max(self._served.values(), default=0.0)
        if not others:
            # Nobody else waits: history no longer matters, and must not grow for ever.
            self._served = {organization: floor}
        self._served[organization] = max(self._served.get(organization, 0.0), floor)
