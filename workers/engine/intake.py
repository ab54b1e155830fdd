"""What a replica takes, what it refuses at once, and what enters the engine next. No IO.

The engine gets what it can run (``max_running_requests``) and what its KV cache can hold
by estimate, so that preemption, which computes a prompt twice, is rare; and no more
prompts than keep it busy, because in the engine they stand in line as they came. Order is
the fair queue's: a sequence that does not fit is overtaken by those that do for
``MOST_OVERTAKEN_S``; after that nothing enters before it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from cachetools import LRUCache

from inference.wire import Submission
from workers.engine.fair_queue import FairQueue, Waiting
from workers.engine.speed import Speed

# Beyond this many waiting sequences a replica answers "overloaded" whatever its speed.
MOST_WAITING = 2_048
# The bound of the predicted wait in the queue, by class: beyond, a request is refused at
# once, because its client is better served by trying again than by waiting and timing
# out. All below REQUEST_TIMEOUT_S, with time left to run.
MOST_WAIT_S = {"priority": 10.0, "standard": 30.0, "flex": 120.0, "batch": 480.0}
MOST_OVERTAKEN_S = 2.0
# Prompts in the engine that are not computed yet: two of vLLM's smaller steps, or half a
# second of a fast engine, so that it never waits for the next.
MOST_PREFILL_TOKENS = 4_096
MOST_PREFILL_S = 0.5
# Reserved in the KV cache beyond the output an organization usually gets.
HEADROOM = 1.25
BLOCK_TOKENS = 16
GROWTH_TOKENS = 64
UNKNOWN_OUTPUT_TOKENS = 256
ORGANIZATIONS_KEPT = 4_096
# While several organizations use the replica, one may fill all but this part of the
# engine: the others find a place at once, not when one of a flood's sequences ends. A
# flood's simulated throughput falls by 3 %, a light one's wait by half.
GUEST_SHARE = 1 / 8
USES_S = 60.0


@dataclass(slots=True)
class Running:
    """A sequence that was given to the engine."""

    submission: Submission
    emitted: int
    waited_s: float
    reserved_tokens: int
    cached_tokens: int = 0
    has_output: bool = False
    told_us: int = 0  # of the engine's time, with the deltas so far


@dataclass(frozen=True, slots=True)
class Refusal:
    reason: str
    retry_after_s: float = 0.0


class OutputLengths:
    """How long an organization's answers are here: a decaying mean of the last few dozen."""

    _WEIGHT = 0.05

    def __init__(self) -> None:
        self._means: LRUCache[int, float] = LRUCache(ORGANIZATIONS_KEPT)

    def learn(self, organization: int, tokens: int) -> None:
        mean = self._means.get(organization, float(tokens))
        self._means[organization] = mean + self._WEIGHT * (tokens - mean)

    def estimate(self, submission: Submission) -> int:
        if submission.sampling is None:
            return 0
        mean = self._means.get(submission.organization, float(UNKNOWN_OUTPUT_TOKENS))
        least = submission.sampling.min_tokens
        return max(least, min(submission.sampling.max_tokens, int(mean) + 1))


class Intake:
    """``offer`` what comes, then start what ``next`` gives until it gives None."""

    def __init__(self, capacity: int, speed: Speed):
        self.running: dict[str, Running] = {}
        self.queue = FairQueue()
        self.kv_tokens = 0  # how many the engine's cache holds; 0: not known, no bound
        self._capacity = capacity
        self._speed = speed
        self._lengths = OutputLengths()
        self._reserved = 0
        self._to_prefill = 0
        # What did not fit into the KV cache when it was its turn, and since when.
        self._held: Waiting | None = None
        self._held_since = 0.0
        self._running_of: Counter[int] = Counter()
        self._used_at: dict[int, float] = {}

    @property
    def waiting(self) -> int:
        return len(self.queue) + (self._held is not None)

    def all_waiting(self) -> Iterator[Submission]:
        if self._held is not None:
            yield self._held.submission
        for waiting in self.queue:
            yield waiting.submission

    # --- Taking and refusing -----------------------------------------------------------

    def offer(self, submission: Submission) -> Refusal | None:
        """Queue it, or say why not."""
        # No organization may have more waiting than there is room left: whatever one
        # floods, there is room for the others, and several floods end up with equal parts.
        room = MOST_WAITING - self.waiting
        output_tokens = self._lengths.estimate(submission)
        if self.queue.waiting_of(submission.organization) >= room:
            return Refusal("overloaded", self._wait_s(submission, output_tokens))
        # What has begun elsewhere was promised to its client.
        if not submission.offset:
            bound_s = MOST_WAIT_S.get(submission.tier, MOST_WAIT_S["standard"])
            wait_s = self._wait_s(submission, output_tokens)
            if wait_s > bound_s:
                return Refusal("overloaded", wait_s - bound_s)
        self.queue.push(submission, output_tokens)
        self._note_use(submission.organization)
        return None

    def remove(self, engine_ids: set[str]) -> list[Submission]:
        """Take out what waits; what runs is the engine's to stop."""
        removed = self.queue.remove(engine_ids)
        if self._held is not None and self._held.submission.engine_id in engine_ids:
            removed.append(self._held.submission)
            self._held = None
        return removed

    def _wait_s(self, submission: Submission, output_tokens: int) -> float:
        """How long it would wait for the engine; 0 as long as nobody can say."""
        # While anything waits, what runs is what the engine can run.
        running = len(self.running)
        if not self.waiting or not running or not self._speed.is_known:
            return 0.0
        ahead = self.queue.ahead_of(submission, output_tokens)
        per_output_s = self._speed.decode_s(running) / running
        prefill_s = self._speed.prefill_s(self._to_prefill + ahead.prompt_tokens)
        return prefill_s + ahead.output_tokens * per_output_s

    # --- Feeding the engine ------------------------------------------------------------

    def next(self) -> Running | None:
        """What enters the engine now, or None: the engine is full or nothing waits."""
        if len(self.running) >= self._capacity or self._to_prefill >= self._most_to_prefill():
            return None
        waiting = self._next_that_fits()
        if waiting is None:
            return None
        submission = waiting.submission
        running = Running(
            submission,
            submission.offset,
            time.monotonic() - waiting.since,
            self._tokens_of(waiting),
        )
        self._reserved += running.reserved_tokens
        self._to_prefill += waiting.prompt_tokens
        self._running_of[submission.organization] += 1
        self.running[submission.engine_id] = running
        return running

    def grew(self, running: Running, tokens: int) -> None:
        """Tokens came out: their charge, and their place in the KV cache."""
        self._prefilled(running)
        running.emitted += tokens
        self.queue.charge_output(running.submission, tokens)
        made = running.emitted - running.submission.offset
        if len(running.submission.prompt_ids) + made > running.reserved_tokens:
            running.reserved_tokens += GROWTH_TOKENS
            self._reserved += GROWTH_TOKENS

    def ended(self, engine_id: str) -> None:
        running = self.running.pop(engine_id)
        self._prefilled(running)
        self._reserved -= running.reserved_tokens
        organization = running.submission.organization
        self._running_of[organization] -= 1
        if not self._running_of[organization]:
            del self._running_of[organization]

    def learn(self, running: Running) -> None:
        """It ran to its end, which says how long the next one's output will be."""
        if running.submission.sampling is not None:
            self._lengths.learn(running.submission.organization, running.emitted)

    def _prefilled(self, running: Running) -> None:
        if not running.has_output:
            running.has_output = True
            self._to_prefill -= len(running.submission.prompt_ids)

    def _most_to_prefill(self) -> float:
        return max(MOST_PREFILL_TOKENS, MOST_PREFILL_S * self._speed.prefill_tokens_per_s)

    def _note_use(self, organization: int) -> None:
        now = time.monotonic()
        self._used_at.pop(organization, None)  # the latest stand last
        self._used_at[organization] = now
        while next(iter(self._used_at.values())) < now - USES_S:
            del self._used_at[next(iter(self._used_at))]

    def _greedy(self) -> int | None:
        """The organization that has all that one may have, while others come too."""
        guests = int(self._capacity * GUEST_SHARE)
        if not guests or len(self._used_at) < 2 or not self._running_of:
            return None
        organization, count = self._running_of.most_common(1)[0]
        return organization if count >= self._capacity - guests else None

    def _next_that_fits(self) -> Waiting | None:
        held = self._held
        if held is not None:
            if self._fits(held):
                self._held = None
                return held
            if time.monotonic() - self._held_since >= MOST_OVERTAKEN_S:
                return None
        first = self.queue.peek(without=self._greedy())
        if first is None or (held is not None and not self._fits(first)):
            return None
        if self._fits(first):
            return self.queue.pop(first)
        self._held, self._held_since = self.queue.pop(first), time.monotonic()
        return self._next_that_fits()

    def _fits(self, waiting: Waiting) -> bool:
        if not self.kv_tokens or not self.running:
            return True  # alone it runs, or the engine itself says that it cannot
        return self._reserved + self._tokens_of(waiting) <= self.kv_tokens

    def _tokens_of(self, waiting: Waiting) -> int:
        sampling = waiting.submission.sampling
        most = 0 if sampling is None else sampling.max_tokens
        output = min(most, int(waiting.output_tokens * HEADROOM))
        tokens = waiting.prompt_tokens + output
        return -(-tokens // BLOCK_TOKENS) * BLOCK_TOKENS
