"""One sequence as its caller sees it: an uninterrupted stream, wherever it runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from inference.errors import InferenceError
from inference.registry import Served
from inference.wire import Delta, Logprob, MessagePart, Sampling

if TYPE_CHECKING:
    from inference.dispatch.placement import Decision


class Job(msgspec.Struct, frozen=True):  # a frozen dataclass takes ten times as long to make
    """What to run: everything is decided and validated, ids are final."""

    request_id: str
    organization: int
    weight: int
    prompt_ids: list[int]
    sampling: Sampling | None  # None: an embedding
    cache_salt: str
    candidates: tuple[Served, ...]  # deployments, best first
    region: str = ""
    must_stay_in_region: bool = False
    tier: str = "standard"
    pair_at: int = 0


@dataclass(slots=True)
class Output:
    """What arrived since the caller last asked; several deltas may be merged."""

    token_ids: list[int]
    text: str
    logprobs: list[Logprob] | None = None
    finish_reason: str = ""
    embedding: bytes = b""
    message: MessagePart | None = None  # reasoning and tool calls, of models with parsers
    prompt_logprobs: list[Logprob] | None = None


@dataclass(slots=True)
class Sequence:
    """Iterate with ``next_output`` until it has a ``finish_reason``; errors are raised."""

    job: Job
    attempt: int = 1
    replica: str = ""
    incarnation: str = ""
    served: Served | None = None
    output_ids: list[int] = field(default_factory=list)
    cached_tokens: int = 0
    engine_us: int = 0  # of all engines it ran on, as far as they said
    started_at: float = field(default_factory=time.monotonic)
    first_output_at: float | None = None
    is_done: bool = False
    parked_since: float | None = None
    excluded: set[str] = field(default_factory=set)
    handed_over_at: float = 0.0
    begun_at_token: int = 0  # how much output there was when the replica got it
    deaths: int = 0  # of engines that ran it
    young_deaths: int = 0  # of those, which died soon after they got it
    decision: Decision | None = None
    retry_after_s: float | None = None  # as the replica that was last too busy said
    stop_reason: int | str | None = None  # the stop string or token that ended it, once it ended
    # A caller that wants the whole answer is not woken for each part of it.
    waits_for_all: bool = False
    # Takes a part that the caller would get next, while it waits for it; False leaves it
    # to the caller. What ends the sequence always is the caller's.
    take: Callable[[Delta], bool] | None = None
    _pending: Output | None = None
    _error: InferenceError | None = None
    _waiter: asyncio.Future[None] | None = None

    async def next_output(self) -> Output:
        """The next part of the output. Raises what ended the sequence, if anything did."""
        while self._pending is None:
            if self._error is not None:
                raise self._error
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        output, self._pending = self._pending, None
        return output

    def accept(self, delta: Delta) -> None:
        """Take a delta that continues exactly where the output stands."""
        if self.first_output_at is None:
            self.first_output_at = time.monotonic()
            self.cached_tokens = min(delta.cached_tokens, len(self.job.prompt_ids))
        self.output_ids += delta.token_ids
        self.engine_us += delta.engine_us
        pending = self._pending
        if pending is None:
            if self.take is not None and self._is_taken(delta):
                return
            self._pending = Output(
                delta.token_ids,
                delta.text,
                delta.logprobs,
                delta.finish_reason,
                delta.embedding,
                delta.message,
                delta.prompt_logprobs,
            )
        else:  # the caller is slower than the engine: one part instead of two
            pending.token_ids += delta.token_ids
            pending.text += delta.text
            if delta.logprobs:
                pending.logprobs = (pending.logprobs or []) + delta.logprobs
            if delta.message is not None:
                before = pending.message
                pending.message = before.plus(delta.message) if before else delta.message
            pending.finish_reason = delta.finish_reason
        if delta.finish_reason:
            self.is_done = True
            self.stop_reason = delta.stop_reason
        elif self.waits_for_all:
            return
        self._notify()

    def _is_taken(self, delta: Delta) -> bool:
        """Only while the caller waits: what it was given before is then behind it."""
        assert self.take is not None
        if delta.finish_reason or self._waiter is None or self._waiter.done():
            return False
        return self.take(delta)

    def fail(self, error: InferenceError) -> None:
        self.is_done = True
        self._error = error
        self._notify()

    def _notify(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
