"""Who is next: classes first, within a class the organization served least. Pure, no IO.

Within a class, Sheng et al., "Fairness in Serving Large Language Models", OSDI 2024,
algorithm 2: each organization has a virtual counter that grows by the tokens it is
served, divided by its plan's weight; the lowest goes first. One that comes back from
idling is lifted to the least counter of those that wait, so that it cannot save up.
Output costs twice a prompt token, the paper's ratio.

Between classes a higher one goes first, but none starves: while a class waits, it is
owed ``GUARANTEED_SHARE`` of all that the others get, and goes first as soon as what it is
owed pays for its next sequence. So of any work W that the engine takes while a class of
share s waits, at least s · W less one sequence is that class's.
"""

from __future__ import annotations

import heapq
import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain

from inference.wire import Submission

PROMPT_COST = 1.0
OUTPUT_COST = 2.0
# In order of preference; an unknown name is standard. Of a class that waits, the share of
# what others are served that it gets in any case: this bounds everybody's wait.
GUARANTEED_SHARE = {"priority": 0.0, "standard": 0.2, "flex": 0.05, "batch": 0.02}
# Of a class, before those that say nothing any more are looked for.
COUNTERS_KEPT = 1_024


@dataclass(slots=True)
class Waiting:
    """A sequence in the queue, and how many tokens it will probably make."""

    submission: Submission
    output_tokens: int = 0
    since: float = 0.0  # by the monotonic clock

    @property
    def prompt_tokens(self) -> int:
        return len(self.submission.prompt_ids)

    @property
    def cost(self) -> float:
        return self.prompt_tokens * PROMPT_COST + self.output_tokens * OUTPUT_COST


@dataclass(slots=True)
class Backlog:
    """Tokens that wait: how long they take is for whoever knows the engine's speed."""

    prompt_tokens: float = 0
    output_tokens: float = 0

    def add(self, waiting: Waiting, sign: int = 1) -> None:
        self.prompt_tokens += sign * waiting.prompt_tokens
        self.output_tokens += sign * waiting.output_tokens


@dataclass(slots=True)
class _Line:
    """One organization's sequences of one class, oldest first."""

    weight: int
    entries: OrderedDict[str, Waiting] = field(default_factory=OrderedDict)
    backlog: Backlog = field(default_factory=Backlog)


class _Class:
    """One class: the organizations that wait in it, by virtual counter."""

    def __init__(self, share: float) -> None:
        self.share = share
        self.owed = 0.0
        self.lines: dict[int, _Line] = {}
        self.backlog = Backlog()
        self.weights = 0
        self._served: dict[int, float] = {}
        self._floor = 0.0
        self._forget_at = COUNTERS_KEPT
        # Counters only grow, so an entry that is out of date is too low: it is found at
        # the top and put back where it belongs.
        self._heap: list[tuple[float, int]] = []
        self._in_heap: set[int] = set()

    def push(self, waiting: Waiting) -> None:
        submission = waiting.submission
        organization = submission.organization
        line = self.lines.get(organization)
        if line is None:
            self._lift(organization)
            line = self.lines[organization] = _Line(max(1, submission.weight))
            self.weights += line.weight
            if organization not in self._in_heap:
                self._in_heap.add(organization)
                heapq.heappush(self._heap, (self._served[organization], organization))
        line.entries[submission.engine_id] = waiting
        line.backlog.add(waiting)
        self.backlog.add(waiting)

    def first(self, without: int | None) -> Waiting | None:
        organization = self._lowest()
        if organization == without:
            if len(self.lines) == 1:
                return None
            top = heapq.heappop(self._heap)
            organization = self._lowest()
            heapq.heappush(self._heap, top)
        return next(iter(self.lines[organization].entries.values()))

    def take(self, waiting: Waiting) -> None:
        submission = waiting.submission
        organization = submission.organization
        line = self.lines[organization]
        del line.entries[submission.engine_id]
        line.backlog.add(waiting, -1)
        self.backlog.add(waiting, -1)
        if not line.entries:
            del self.lines[organization]
            self.weights -= line.weight
        if not self.lines:
            self._heap.clear()
            self._in_heap.clear()
            self.owed = 0.0

    def charge(self, submission: Submission, cost: float) -> None:
        organization = submission.organization
        self._served[organization] = self._counter(organization) + cost / max(1, submission.weight)

    def fairly_ahead_of(self, waiting: Waiting) -> Backlog:
        """What all get while its organization gets what it waits for, this one included."""
        line = self.lines.get(waiting.submission.organization)
        weight = line.weight if line else max(1, waiting.submission.weight)
        part = (self.weights if line else self.weights + weight) / weight
        own = Backlog() if line is None else line.backlog
        return Backlog(
            (own.prompt_tokens + waiting.prompt_tokens) * part - waiting.prompt_tokens,
            (own.output_tokens + waiting.output_tokens) * part - waiting.output_tokens,
        )

    def _counter(self, organization: int) -> float:
        return self._served.get(organization, self._floor)

    def _lowest(self) -> int:
        """The organization that waits and was served least."""
        while True:
            counter, organization = self._heap[0]
            if organization not in self.lines:
                heapq.heappop(self._heap)
                self._in_heap.discard(organization)
            elif counter < (now := self._counter(organization)):
                heapq.heapreplace(self._heap, (now, organization))
            else:
                self._floor = max(self._floor, counter)
                return organization

    def _lift(self, organization: int) -> None:
        if self.lines:
            self._lowest()  # brings the floor up to the least of those that wait
        else:
            # Nobody else waits: history no longer matters, and must not grow for ever.
            self._floor = max(self._served.values(), default=self._floor)
            self._served = {}
        if len(self._served) > self._forget_at:
            self._forget()
        self._served[organization] = max(self._counter(organization), self._floor)

    def _forget(self) -> None:
        """Drop counters that say nothing: who has one comes back lifted to the floor anyway."""
        self._served = {
            organization: counter
            for organization, counter in self._served.items()
            if counter > self._floor or organization in self.lines
        }
        # Twice what is left, so that looking through all of them stays rare.
        self._forget_at = max(COUNTERS_KEPT, 2 * len(self._served))


class FairQueue:
    """``push``, ``pop``, ``charge_output`` and ``remove`` take O(log n) organizations."""

    def __init__(self) -> None:
        self._classes = {name: _Class(share) for name, share in GUARANTEED_SHARE.items()}
        self._by_id: dict[str, Waiting] = {}
        self._of_organization: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Waiting]:
        lines = chain.from_iterable(each.lines.values() for each in self._classes.values())
        return chain.from_iterable(line.entries.values() for line in lines)

    def waiting_of(self, organization: int) -> int:
        return self._of_organization.get(organization, 0)

    def push(self, submission: Submission, output_tokens: int = 0) -> None:
        waiting = Waiting(submission, output_tokens, time.monotonic())
        organization = submission.organization
        self._class_of(submission).push(waiting)
        self._by_id[submission.engine_id] = waiting
        self._of_organization[organization] = self.waiting_of(organization) + 1

    def peek(self, without: int | None = None) -> Waiting | None:
        """What is next, leaving out the organization ``without``."""
        chosen = None
        for each in self._classes.values():
            first = each.first(without) if each.lines else None
            if first is None:
                continue
            if chosen is None:
                chosen = first
            elif each.owed >= first.cost and each.share:
                return first
        return chosen

    def pop(self, waiting: Waiting | None = None) -> Waiting:
        """Take the next sequence, or what ``peek`` gave; its prompt is charged."""
        waiting = waiting or self.peek()
        if waiting is None:
            raise IndexError("the queue is empty")
        submission = waiting.submission
        own = self._class_of(submission)
        own.charge(submission, waiting.prompt_tokens * PROMPT_COST)
        # Between classes the expected cost counts, all at once: were output counted as it
        # comes, a class owed for one sequence would start many before the first is paid for.
        own.owed = max(0.0, own.owed - waiting.cost)
        for each in self._classes.values():
            if each is not own and each.lines:
                each.owed += each.share * waiting.cost
        self._take(waiting)
        return waiting

    def charge_output(self, submission: Submission, tokens: int) -> None:
        self._class_of(submission).charge(submission, tokens * OUTPUT_COST)

    def remove(self, engine_ids: set[str]) -> list[Submission]:
        """Take out sequences that wait; those already popped are not here."""
        removed = [self._by_id[each] for each in engine_ids if each in self._by_id]
        for waiting in removed:
            self._take(waiting)
        return [waiting.submission for waiting in removed]

    def ahead_of(self, submission: Submission, output_tokens: int) -> Backlog:
        """What will be served before a sequence that came now, if nobody else came.

        All that waits in its class and above, but no more of its own class than the
        others' shares while its organization's sequences are served: beside a flood a
        light organization waits for as much as it asks for itself.
        """
        own = self._class_of(submission)
        ahead = Backlog()
        for each in self._classes.values():
            if each is own:
                break
            ahead.prompt_tokens += each.backlog.prompt_tokens
            ahead.output_tokens += each.backlog.output_tokens
        fair = own.fairly_ahead_of(Waiting(submission, output_tokens))
        ahead.prompt_tokens += min(own.backlog.prompt_tokens, fair.prompt_tokens)
        ahead.output_tokens += min(own.backlog.output_tokens, fair.output_tokens)
        return ahead

    def _class_of(self, submission: Submission) -> _Class:
        return self._classes.get(submission.tier) or self._classes["standard"]

    def _take(self, waiting: Waiting) -> None:
        organization = waiting.submission.organization
        self._class_of(waiting.submission).take(waiting)
        del self._by_id[waiting.submission.engine_id]
        left = self._of_organization.pop(organization) - 1
        if left:
            self._of_organization[organization] = left
