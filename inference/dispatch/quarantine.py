"""Requests that engines die of: refused for a while after the second death.

An engine's death ends every sequence in it, so most that were there are innocent.
What speaks against one is that it had hardly begun when the engine died, twice; or
that engines died under it three times, whenever. Gateways tell each other.
"""

from __future__ import annotations

import hashlib
import time

from inference import wire
from inference.dispatch.sequence import Job, Sequence
from inference.errors import RequestQuarantined
from inference.fleet import QUARANTINE_S

STREAM_KEPT = 1_000
FINGERPRINTS_KEPT = 1_000
# What harms an engine does so in its prefill or its first steps, as far as we have seen.
YOUNG_TOKENS = 8
MOST_YOUNG_DEATHS = 2
MOST_DEATHS = 3
MESSAGE = (
    "This request was running each time its model's engine stopped. It is refused for some "
    "minutes; please change it, or report it with its request id."
)


def fingerprint(job: Job) -> str:
    """Of what the client can change: its prompt and how it is to be answered."""
    content = wire.encode((job.organization, job.prompt_ids, job.sampling))
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def is_suspect(sequence: Sequence) -> bool:
    """Count the death of an engine that ran this sequence; whether it is one too many."""
    sequence.deaths += 1
    if len(sequence.output_ids) - sequence.begun_at_token < YOUNG_TOKENS:
        sequence.young_deaths += 1
    return sequence.young_deaths >= MOST_YOUNG_DEATHS or sequence.deaths >= MOST_DEATHS


class Quarantine:
    """Bounded: the oldest fingerprint makes room for a new one."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._until)

    def add(self, mark: str, for_s: float = QUARANTINE_S) -> None:
        self._until.pop(mark, None)
        self._until[mark] = time.monotonic() + for_s
        if len(self._until) > FINGERPRINTS_KEPT:
            del self._until[next(iter(self._until))]

    def check(self, job: Job) -> None:
        """Raises RequestQuarantined. Free as long as nothing is in quarantine."""
        if not self._until:
            return
        mark = fingerprint(job)
        until = self._until.get(mark)
        if until is None:
            return
        if until > time.monotonic():
            raise RequestQuarantined(MESSAGE)
        del self._until[mark]
