"""Whose time an engine's step was: its wall time, divided among the sequences in it.

A step computes prompt tokens of some sequences and one more token of others. Its time is
divided between the two by what each would have taken alone, as measured
(``speed``); the prefill's part goes by prompt tokens, the decoding's in equal parts.
What was spent on prompts that are not done yet waits in a pool until they are.
``docs/adr/0019-time-apportioned.md`` says why so. Pure, no IO.
"""

from __future__ import annotations

from inference.engine_protocol import Step
from workers.engine.speed import Speed


class StepAccounts:
    """``take`` every step; ``close`` a sequence when it ends. Nothing is lost or invented:
    ``taken_s`` is what was closed, what is open, the pool, and ``unattributed_s``."""

    def __init__(self, speed: Speed):
        self._speed = speed
        self._open: dict[str, float] = {}
        self._pool_s = 0.0
        self._pool_tokens = 0
        self.taken_s = 0.0
        self.unattributed_s = 0.0  # of sequences that were aborted meanwhile

    def open(self, engine_id: str) -> None:
        """Call before the sequence is in a step; steps' unknown sequences get nothing."""
        self._open[engine_id] = 0.0

    def take(self, step: Step) -> None:
        self.taken_s += step.duration_s
        decoded = [each for each in step.decoded if each in self._open]
        if not (decoded or step.prefilled or step.prefill_tokens):
            self.unattributed_s += step.duration_s
            return
        decode_s = self._decode_part(step, len(decoded))
        for engine_id in decoded:
            self._open[engine_id] += decode_s / len(decoded)
        self._pool_s += step.duration_s - decode_s
        self._pool_tokens += step.prefill_tokens
        self._share_pool(step)

    def so_far_us(self, engine_id: str) -> int:
        """An open sequence's time in whole microseconds."""
        return int(self._open.get(engine_id, 0.0) * 1_000_000)

    def close(self, engine_id: str) -> int:
        """The sequence's time in microseconds."""
        spent_s = self._open.pop(engine_id, 0.0)
        if not self._open:
            # Nobody is left whose prompt the pool could be.
            self.unattributed_s += self._pool_s
            self._pool_s, self._pool_tokens = 0.0, 0
        return round(spent_s * 1_000_000)

    def _decode_part(self, step: Step, decoding: int) -> float:
        if not decoding:
            return 0.0
        if not step.prefill_tokens and not step.prefilled:
            return step.duration_s
        decode_s = self._speed.decode_s(decoding)
        prefill_s = self._speed.prefill_s(step.prefill_tokens)
        if not decode_s or not prefill_s:  # nothing is measured yet: a token is a token
            decode_s, prefill_s = float(decoding), float(step.prefill_tokens)
        return step.duration_s * decode_s / (decode_s + prefill_s)

    def _share_pool(self, step: Step) -> None:
        done = {each: tokens for each, tokens in step.prefilled.items() if each in self._open}
        whole = max(self._pool_tokens, sum(step.prefilled.values()))
        if not done or not whole:
            return
        per_token_s = self._pool_s / whole
        for engine_id, tokens in done.items():
            self._open[engine_id] += tokens * per_token_s
            self._pool_s -= tokens * per_token_s
        self._pool_tokens = whole - sum(done.values())
        if self._pool_tokens == 0:
            self._pool_s = 0.0  # what rounding left
