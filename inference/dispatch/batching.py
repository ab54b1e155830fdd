"""Which sequences leave together, in what order, and how long they wait for each other.

Pure: the clock is an argument. Order is by class, then fairness, then arrival;
what closes a batch is its profile's bounds and what its replica can hold and do.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import msgspec

from inference.wire import Submission

TIERS = ("priority", "standard", "flex", "batch")


@dataclass(frozen=True, slots=True)
class Profile:
    """Bounds of one message. ``wait_s`` is for company only: an idle replica waits for nobody."""

    requests: int
    wait_s: float
    tokens: int  # prompt tokens in all
    longest: int  # a longer prompt travels alone, so that short ones do not share its fate
    first_token_s: float  # what the predictor holds the batch to
    waits_from_load: float  # share of the replica's places in use from which waiting is free


# design.md section 4 step 9. The token bounds keep one message under a megabyte. For latency a
# replica must be full before anyone waits: whoever comes then could not start yet anyway.
PROFILES = {
    "latency": Profile(8, 0.05, 32_768, 16_384, 0.5, 1.0),
    "throughput": Profile(32, 0.2, 131_072, 32_768, 2.0, 0.5),
    "cost": Profile(64, 0.5, 131_072, 65_536, 10.0, 0.25),
}
# Output is reserved in the KV estimate up to here: most answers end long before max_tokens.
EXPECTED_OUTPUT_TOKENS = 512
# A lower class that waited this many profile waits goes first: a flood above it delays it,
# and does not starve it.
PATIENCE_WAITS = 4


class Speed(msgspec.Struct, frozen=True):
    """What a replica's heartbeats measured; 0 is not known and bounds nothing."""

    prefill_tokens_per_s: float = 0.0
    decode_s: float = 0.0
    kv_tokens: int = 0
    load: float = 0.0  # sequences it holds over those it can run

    def first_token_s(self, prompt_tokens: int) -> float:
        """How long a batch of so many prompt tokens takes to its first tokens."""
        if not self.prefill_tokens_per_s:
            return 0.0
        return prompt_tokens / self.prefill_tokens_per_s + self.decode_s


class Waiting(msgspec.Struct, frozen=True):
    submission: Submission
    arrived_at: float

    @property
    def prompt_tokens(self) -> int:
        return len(self.submission.prompt_ids)

    @property
    def kv_tokens(self) -> int:
        sampling = self.submission.sampling
        output = 0 if sampling is None else min(sampling.max_tokens, EXPECTED_OUTPUT_TOKENS)
        return self.prompt_tokens + output


@dataclass(slots=True)
class _Lane:
    """One class: a queue for each organization, and the tokens each was given so far."""

    queues: dict[int, deque[Waiting]] = field(default_factory=dict)
    given: dict[int, float] = field(default_factory=dict)

    def add(self, waiting: Waiting) -> None:
        organization = waiting.submission.organization
        queue = self.queues.get(organization)
        if queue is None:
            # Having asked for nothing is no credit: whoever comes back starts level.
            level = min((self.given[each] for each in self.queues), default=0.0)
            self.given[organization] = max(self.given.get(organization, 0.0), level)
            queue = self.queues[organization] = deque()
        queue.append(waiting)

    def first(self) -> Waiting:
        """The head of whoever was given least; of two alike, who came first."""
        if len(self.queues) == 1:
            return next(iter(self.queues.values()))[0]
        heads = (queue[0] for queue in self.queues.values())
        return min(
            heads, key=lambda head: (self.given[head.submission.organization], head.arrived_at)
        )

    def oldest(self) -> float:
        return min(queue[0].arrived_at for queue in self.queues.values())

    def pop(self, waiting: Waiting) -> None:
        submission = waiting.submission
        queue = self.queues[submission.organization]
        queue.popleft()
        self.given[submission.organization] += waiting.prompt_tokens / max(1, submission.weight)
        self._forget_empty(submission.organization)

    def remove(self, request_id: str) -> Waiting | None:
        for organization, queue in self.queues.items():
            for waiting in queue:
                if waiting.submission.request_id == request_id:
                    queue.remove(waiting)
                    self._forget_empty(organization)
                    return waiting
        return None

    def _forget_empty(self, organization: int) -> None:
        if not self.queues[organization]:
            del self.queues[organization]
        if not self.queues:
            self.given.clear()


class BatchQueue:
    """What waits for one replica."""

    def __init__(self) -> None:
        self._lanes = {tier: _Lane() for tier in TIERS}
        self._count = 0
        self.tokens = 0

    def __len__(self) -> int:
        return self._count

    @property
    def is_urgent(self) -> bool:
        return bool(self._lanes["priority"].queues)

    def add(self, submission: Submission, now: float) -> None:
        # A tier of a newer release is no reason to lose a request.
        lane = self._lanes.get(submission.tier) or self._lanes["standard"]
        lane.add(Waiting(submission, now))
        self._count += 1
        self.tokens += len(submission.prompt_ids)

    def withdraw(self, request_id: str) -> bool:
        """Take back a sequence that has not left yet."""
        for lane in self._lanes.values():
            if (waiting := lane.remove(request_id)) is not None:
                self._count -= 1
                self.tokens -= waiting.prompt_tokens
                return True
        return False

    def oldest(self) -> float:
        return min(lane.oldest() for lane in self._lanes.values() if lane.queues)

    def take(self, profile: Profile, speed: Speed, now: float) -> tuple[list[Waiting], str]:
        """The next batch and what closed it: empty, requests, tokens, length, kv or target."""
        batch = _Batch(profile, speed, now)
        while self._count:
            lane = self._next_lane(profile, now)
            waiting = lane.first()
            if closed := batch.refusal(waiting):
                return batch.taken, closed
            lane.pop(waiting)
            batch.add(waiting)
            self._count -= 1
            self.tokens -= waiting.prompt_tokens
        return batch.taken, "empty"

    def _next_lane(self, profile: Profile, now: float) -> _Lane:
        lanes = [lane for lane in self._lanes.values() if lane.queues]
        overdue = now - PATIENCE_WAITS * profile.wait_s
        for lane in lanes[1:]:
            if lane.oldest() < overdue:
                return lane
        return lanes[0]


class _Batch:
    """One batch as it grows; the first sequence always fits, or it would never leave."""

    def __init__(self, profile: Profile, speed: Speed, now: float):
        self.taken: list[Waiting] = []
        self._profile = profile
        self._speed = speed
        self._now = now
        self._tokens = 0
        self._kv_tokens = 0
        self._oldest = now
        self._is_alone = False

    def refusal(self, waiting: Waiting) -> str:
        """Which bound keeps this sequence out; empty if none does."""
        if not self.taken:
            return ""
        profile, speed = self._profile, self._speed
        tokens = self._tokens + waiting.prompt_tokens
        if len(self.taken) >= profile.requests:
            return "requests"
        if self._is_alone or waiting.prompt_tokens > profile.longest:
            return "length"
        if tokens > profile.tokens:
            return "tokens"
        if speed.kv_tokens and self._kv_tokens + waiting.kv_tokens > speed.kv_tokens:
            return "kv"
        if self._would_miss(tokens) and not self._would_miss(self._tokens):
            return "target"
        return ""

    def _would_miss(self, tokens: int) -> bool:
        """Whether its first tokens come too late; one that is late already loses nothing more."""
        waited_s = self._now - self._oldest
        return waited_s + self._speed.first_token_s(tokens) > self._profile.first_token_s

    def add(self, waiting: Waiting) -> None:
        self.taken.append(waiting)
        self._tokens += waiting.prompt_tokens
        self._kv_tokens += waiting.kv_tokens
        self._oldest = min(self._oldest, waiting.arrived_at)
        self._is_alone = waiting.prompt_tokens > self._profile.longest


def wait_s(queue: BatchQueue, profile: Profile, speed: Speed, gap_s: float, now: float) -> float:
    """How much longer what waits should wait for more; 0 sends it now.

    ``gap_s`` is the mean time between arrivals: nobody waits for company that
    is not expected, longer than filling the batch takes, or beyond its target.
    """
    if speed.load <= profile.waits_from_load or queue.is_urgent:
        return 0.0
    missing = profile.requests - len(queue)
    waited_s = now - queue.oldest()
    left_s = profile.wait_s - waited_s
    if missing <= 0 or queue.tokens >= profile.tokens or gap_s > left_s:
        return 0.0
    slack_s = profile.first_token_s - waited_s - speed.first_token_s(queue.tokens)
    return max(0.0, min(left_s, gap_s * missing, slack_s))
