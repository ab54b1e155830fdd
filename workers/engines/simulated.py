"""The simulated engine, for load and fleet simulation only: timing without a model.

Its text is made up (the words of its own name, in an order that the prompt alone decides,
whatever the temperature) and it says so in a response header and on every page;
production refuses to start with it. Timing is ``instant`` or a JSON profile measured from a real replica::

    {"prefill_tokens_per_s": 4000, "decode_ms": 18.0, "decode_ms_per_running": 0.6}

``manage.py measure_profile`` writes one. Steps are a real engine's: each computes some
waiting prompts' tokens, at most ``MOST_STEP_TOKENS``, and one more token of every
sequence whose prompt is done; those of both kinds wait for one another.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from inference.engine_protocol import PROBE_EVERY_S, EngineSpec, EngineStats, Step, ignore_step
from inference.wire import Delta, Submission

WORDS = (" simulated", " text", " of", " no", " model", ".")
DEFAULT_DIMENSIONS = 384
# Of a step, vLLM's max_num_batched_tokens on small GPUs.
MOST_STEP_TOKENS = 2_048


@dataclass(frozen=True)
class Profile:
    """How long a real replica would take; all zero answers at once."""

    prefill_tokens_per_s: float = 0.0
    decode_ms: float = 0.0
    decode_ms_per_running: float = 0.0
    kv_tokens: int = 0  # what its KV cache would hold; 0: anything

    @classmethod
    def load(cls, name: str) -> Profile:
        if name == "instant":
            return cls()
        return cls(**json.loads(Path(name).read_text()))

    def prefill_s(self, tokens: int) -> float:
        return tokens / self.prefill_tokens_per_s if self.prefill_tokens_per_s else 0.0

    def decode_s(self, running: int) -> float:
        return (self.decode_ms + self.decode_ms_per_running * running) / 1000 if running else 0.0

    @property
    def is_instant(self) -> bool:
        return not (self.prefill_tokens_per_s or self.decode_ms or self.decode_ms_per_running)


@dataclass
class _Sequence:
    submission: Submission
    left: int
    made: int
    to_prefill: int
    mark: bytes  # of the prompt, without what was already emitted elsewhere


class SimulatedEngine:
    name = "simulated"
    probe_every_s = PROBE_EVERY_S
    preparing = 0

    def __init__(self) -> None:
        self._live: dict[str, _Sequence] = {}
        self._stepper: asyncio.Task[None] | None = None

    async def start(
        self,
        spec: EngineSpec,
        emit: Callable[[Delta], None],
        on_death: Callable[[BaseException], None],
        on_step: Callable[[Step], None] = ignore_step,
    ) -> None:
        self._emit, self._on_step, self._spec = emit, on_step, spec
        self._profile = Profile.load(settings.SIMULATED_PROFILE)

    async def submit(self, submission: Submission) -> None:
        if submission.pair_at:
            score = _digest(submission.prompt_ids)[0] / 255
            self._emit(_last(submission.engine_id, embedding=struct.pack("<f", score)))
            return
        if submission.sampling is None:
            self._emit(_last(submission.engine_id, embedding=_vector(submission.prompt_ids)))
            return
        prompt_tokens = len(submission.prompt_ids) if self._profile.prefill_tokens_per_s else 0
        sequence = _Sequence(
            submission,
            submission.sampling.max_tokens,
            submission.offset,
            prompt_tokens,
            _digest(submission.prompt_ids[: len(submission.prompt_ids) - submission.offset]),
        )
        if self._profile.is_instant:
            self._emit(_tokens(sequence, sequence.left))
            return
        self._live[submission.engine_id] = sequence
        if self._stepper is None or self._stepper.done():
            self._stepper = asyncio.create_task(self._run_steps())

    def abort(self, engine_ids: list[str]) -> None:
        for engine_id in engine_ids:
            self._live.pop(engine_id, None)
            self._emit(_last(engine_id, finish_reason="abort"))

    def stats(self) -> EngineStats:
        running, kv_tokens = len(self._live), self._profile.kv_tokens
        if kv_tokens:
            used = sum(len(each.submission.prompt_ids) + each.made for each in self._live.values())
            return EngineStats(running, 0, min(1.0, used / kv_tokens), kv_tokens)
        return EngineStats(running, 0, min(1.0, running / self._spec.max_running_requests))

    async def stop(self) -> None:
        if self._stepper is not None:
            self._stepper.cancel()

    async def _run_steps(self) -> None:
        """For as long as anything runs."""
        began = time.monotonic()
        while self._live:
            began = await self._step(began)

    async def _step(self, began: float) -> float:
        """One step; returns when it ended."""
        decoding = [each for each, sequence in self._live.items() if not sequence.to_prefill]
        chunks = self._chunks(MOST_STEP_TOKENS - len(decoding))
        prompt_tokens = sum(chunks.values())
        await asyncio.sleep(
            self._profile.prefill_s(prompt_tokens) + self._profile.decode_s(len(decoding))
        )
        decoded = [each for each in decoding if each in self._live]  # not aborted meanwhile
        prefilled = self._computed(chunks)
        ended = time.monotonic()
        self._on_step(Step(ended - began, decoded, prefilled, prompt_tokens))
        for engine_id in [*decoded, *prefilled]:
            self._make_token(engine_id)
        return ended

    def _chunks(self, budget: int) -> dict[str, int]:
        """How many tokens of which prompts the next step computes, oldest first."""
        chunks: dict[str, int] = {}
        for engine_id, sequence in self._live.items():
            if budget <= 0:
                break
            if sequence.to_prefill:
                chunks[engine_id] = min(budget, sequence.to_prefill)
                budget -= chunks[engine_id]
        return chunks

    def _computed(self, chunks: dict[str, int]) -> dict[str, int]:
        """Count the chunks as done; returns the sequences whose whole prompt is, with its size."""
        prefilled = {}
        for engine_id, tokens in chunks.items():
            sequence = self._live.get(engine_id)
            if sequence is not None:
                sequence.to_prefill -= tokens
                if not sequence.to_prefill:
                    prefilled[engine_id] = len(sequence.submission.prompt_ids)
        return prefilled

    def _make_token(self, engine_id: str) -> None:
        sequence = self._live.get(engine_id)
        if sequence is None:
            return
        delta = _tokens(sequence, 1)
        if delta.finish_reason:
            del self._live[engine_id]
        self._emit(delta)


def _tokens(sequence: _Sequence, count: int) -> Delta:
    """The next tokens: they depend on prompt and position only, so that a continuation
    elsewhere is the same text, and the answer to another prompt is another."""
    first, mark = sequence.made, sequence.mark
    sequence.made += count
    sequence.left -= count
    ids = [
        (mark[position % len(mark)] + position) % len(WORDS)
        for position in range(first, first + count)
    ]
    return Delta(
        sequence.submission.engine_id,
        0,
        0,
        ids,
        "".join([WORDS[token_id] for token_id in ids]),
        finish_reason="length" if sequence.left <= 0 else "",
    )


def _digest(prompt_ids: list[int]) -> bytes:
    return hashlib.sha256(struct.pack(f"<{len(prompt_ids)}I", *prompt_ids)).digest()


def _vector(prompt_ids: list[int]) -> bytes:
    """A unit vector that depends on the prompt only; it means nothing."""
    seed = _digest(prompt_ids)
    raw = [seed[i % 32] - 127.5 for i in range(DEFAULT_DIMENSIONS)]
    norm = sum(value * value for value in raw) ** 0.5
    return struct.pack(f"<{DEFAULT_DIMENSIONS}f", *(value / norm for value in raw))


def _last(engine_id: str, finish_reason: str = "stop", embedding: bytes = b"") -> Delta:
    return Delta(engine_id, 0, 0, [], "", finish_reason=finish_reason, embedding=embedding)
