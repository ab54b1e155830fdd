"""What one step of vLLM's engine did, gathered from its outputs and its stat logger.

vLLM hands a step's outputs over one by one and then its figures, all in one go of its
output loop. Deltas wait here for those figures, so that a sequence's last delta can
carry the time of its last step. Knows nothing of vLLM's types.
"""

from __future__ import annotations

from inference.engine_protocol import Step
from inference.wire import Delta


class Steps:
    """``wake`` with work, ``add`` outputs, ``end`` the step; ``now`` is a monotonic clock."""

    def __init__(self) -> None:
        self._began: float | None = None
        self._deltas: list[Delta] = []
        self._decoded: list[str] = []
        self._prefilled: dict[str, int] = {}

    def wake(self, now: float) -> None:
        """The engine has work from now on; its time counts."""
        if self._began is None:
            self._began = now

    def rest(self) -> None:
        """Nothing is left to do: what passes until the next ``wake`` is nobody's time."""
        self._began = None

    def add(self, delta: Delta, computed_tokens: int | None) -> None:
        """An output; ``computed_tokens`` of its prompt if it is the sequence's first."""
        self._deltas.append(delta)
        if computed_tokens is None:
            self._decoded.append(delta.request_id)
        else:
            self._prefilled[delta.request_id] = computed_tokens

    def end(self, now: float, prefill_tokens: int | None, preempted: int, has_more: bool) -> Step:
        """Close the step. ``prefill_tokens`` None: the engine does not say how many."""
        duration_s = 0.0 if self._began is None else now - self._began
        self._began = now if has_more else None
        return self._closed(duration_s, prefill_tokens, preempted)

    def end_late(self) -> Step:
        """Close outputs that came after their step: their time is already in the accounts."""
        return self._closed(0.0, 0, 0)

    def take_deltas(self) -> list[Delta]:
        deltas, self._deltas = self._deltas, []
        return deltas

    def _closed(self, duration_s: float, prefill_tokens: int | None, preempted: int) -> Step:
        decoded, self._decoded = self._decoded, []
        prefilled, self._prefilled = self._prefilled, {}
        if prefill_tokens is None:
            prefill_tokens = sum(prefilled.values())
        return Step(duration_s, decoded, prefilled, prefill_tokens, preempted)
