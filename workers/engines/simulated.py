"""The simulated engine, for load and fleet simulation only: timing without a model.

Its text is made up (the words of its own name, over and over) and it says so in
a response header and on every page; production refuses to start with it. Timing
is ``instant`` or a JSON profile measured from a real replica::

    {"prefill_tokens_per_s": 4000, "decode_ms": 18.0, "decode_ms_per_running": 0.6}
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from django.conf import settings

from inference.engine_protocol import EngineSpec, EngineStats
from inference.wire import Delta, Submission

WORDS = (" simulated", " text", " of", " no", " model", ".")
DEFAULT_DIMENSIONS = 384


@dataclass(frozen=True)
class Profile:
    """How long a real replica would take; all zero answers at once."""

    prefill_tokens_per_s: float = 0.0
    decode_ms: float = 0.0
    decode_ms_per_running: float = 0.0

    @classmethod
    def load(cls, name: str) -> Profile:
        if name == "instant":
            return cls()
        return cls(**json.loads(Path(name).read_text()))

    def prefill_s(self, tokens: int) -> float:
        return tokens / self.prefill_tokens_per_s if self.prefill_tokens_per_s else 0.0

    def step_s(self, running: int) -> float:
        return (self.decode_ms + self.decode_ms_per_running * running) / 1000

    @property
    def is_instant(self) -> bool:
        return self == Profile()


@dataclass
class _Sequence:
    submission: Submission
    left: int
    made: int = 0
    ready_at: float = field(default=0.0)


class SimulatedEngine:
    name = "simulated"

    def __init__(self) -> None:
        self._live: dict[str, _Sequence] = {}
        self._stepper: asyncio.Task[None] | None = None

    async def start(
        self,
        spec: EngineSpec,
        emit: Callable[[Delta], None],
        on_death: Callable[[BaseException], None],
    ) -> None:
        self._emit, self._spec = emit, spec
        self._profile = Profile.load(settings.SIMULATED_PROFILE)

    async def submit(self, submission: Submission) -> None:
        if submission.sampling is None:
            self._emit(_last(submission.engine_id, embedding=_vector(submission.prompt_ids)))
            return
        sequence = _Sequence(submission, submission.sampling.max_tokens, submission.offset)
        if self._profile.is_instant:
            self._emit(_tokens(sequence, sequence.left))
            return
        sequence.ready_at = time.monotonic() + self._profile.prefill_s(len(submission.prompt_ids))
        self._live[submission.engine_id] = sequence
        if self._stepper is None or self._stepper.done():
            self._stepper = asyncio.create_task(self._step())

    def abort(self, engine_ids: list[str]) -> None:
        for engine_id in engine_ids:
            self._live.pop(engine_id, None)
            self._emit(_last(engine_id, finish_reason="abort"))

    def stats(self) -> EngineStats:
        running = len(self._live)
        return EngineStats(running, 0, min(1.0, running / self._spec.max_running_requests))

    async def stop(self) -> None:
        if self._stepper is not None:
            self._stepper.cancel()

    async def _step(self) -> None:
        """Decode steps for as long as anything runs: each makes a token a sequence."""
        while self._live:
            await asyncio.sleep(self._profile.step_s(len(self._live)))
            now = time.monotonic()
            for engine_id, sequence in list(self._live.items()):
                if sequence.ready_at <= now:
                    delta = _tokens(sequence, 1)
                    if delta.finish_reason:
                        del self._live[engine_id]
                    self._emit(delta)


def _tokens(sequence: _Sequence, count: int) -> Delta:
    """The next tokens: ids and words depend on the position only, so that a
    continuation elsewhere is the same text."""
    first = sequence.made
    positions = range(first, first + count)
    sequence.made += count
    sequence.left -= count
    return Delta(
        sequence.submission.engine_id,
        0,
        0,
        [position % len(WORDS) for position in positions],
        "".join(WORDS[position % len(WORDS)] for position in positions),
        finish_reason="length" if sequence.left <= 0 else "",
    )


def _vector(prompt_ids: list[int]) -> bytes:
    """A unit vector that depends on the prompt only; it means nothing."""
    seed = hashlib.sha256(struct.pack(f"<{len(prompt_ids)}I", *prompt_ids)).digest()
    raw = [seed[i % 32] - 127.5 for i in range(DEFAULT_DIMENSIONS)]
    norm = sum(value * value for value in raw) ** 0.5
    return struct.pack(f"<{DEFAULT_DIMENSIONS}f", *(value / norm for value in raw))


def _last(engine_id: str, finish_reason: str = "stop", embedding: bytes = b"") -> Delta:
    return Delta(engine_id, 0, 0, [], "", finish_reason=finish_reason, embedding=embedding)
