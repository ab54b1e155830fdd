"""How fast this replica's engine is, learned from its steps. Pure, no clock.

Everything decays by the engine's busy time, so that an idle night changes nothing. A
decode step's duration is a line over the number of sequences in it, which is what
the simulated engine's profile is too.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from inference.engine_protocol import Step

# Of busy time: the figures for heartbeats follow the load, the line needs many loads.
RECENT_S = 5.0
LINE_S = 300.0
# Less than so much busy time says nothing yet: first steps compile and allocate.
LEAST_BUSY_S = 0.5


@dataclass(frozen=True)
class MeasuredProfile:
    """``workers.engines.simulated.Profile`` takes it as it is; 0 is unknown."""

    prefill_tokens_per_s: float
    decode_ms: float
    decode_ms_per_running: float

    as_dict = asdict


@dataclass(slots=True)
class _Mean:
    """A decaying mean: what was ``half_life_s`` of busy time ago weighs half."""

    half_life_s: float
    total: float = 0.0
    weight: float = 0.0

    def add(self, busy_s: float, total: float, weight: float) -> None:
        kept = 0.5 ** (busy_s / self.half_life_s)
        self.total = self.total * kept + total
        self.weight = self.weight * kept + weight

    @property
    def value(self) -> float:
        return self.total / self.weight if self.weight else 0.0


class _Line:
    """Least squares of ``duration = base + slope · running`` over decaying steps."""

    def __init__(self, half_life_s: float):
        self._half_life_s = half_life_s
        self._count = self._n = self._nn = self._t = self._nt = 0.0

    def add(self, running: int, duration_s: float) -> None:
        kept = 0.5 ** (duration_s / self._half_life_s)
        self._count = self._count * kept + 1
        self._n = self._n * kept + running
        self._nn = self._nn * kept + running * running
        self._t = self._t * kept + duration_s
        self._nt = self._nt * kept + running * duration_s

    @property
    def base_and_slope(self) -> tuple[float, float]:
        if not self._count:
            return 0.0, 0.0
        spread = self._count * self._nn - self._n * self._n
        # One load alone gives no slope: all steps were as long as their mean.
        if spread < 1e-6 * self._count * self._nn:
            return self._t / self._count, 0.0
        slope = max(0.0, (self._count * self._nt - self._n * self._t) / spread)
        base = (self._t - slope * self._n) / self._count
        if base >= 0:
            return base, slope
        return 0.0, self._nt / self._nn


class Speed:
    def __init__(self) -> None:
        self._step = _Mean(RECENT_S)
        self._prefill = _Mean(LINE_S)
        self._line = _Line(LINE_S)
        self._busy_s = 0.0

    def learn(self, step: Step) -> None:
        self._busy_s += step.duration_s
        decoding = len(step.decoded)
        if not step.prefill_tokens:
            if decoding:
                self._step.add(step.duration_s, step.duration_s, 1.0)
                self._line.add(decoding, step.duration_s)
            return
        # What decoding alone would have taken is not prefill's; where it was all, the
        # line is off, and a tenth is the least that can be said for the prompt.
        own_s = max(step.duration_s - self.decode_s(decoding), 0.1 * step.duration_s)
        self._prefill.add(own_s, step.prefill_tokens, own_s)

    @property
    def is_known(self) -> bool:
        return self._busy_s >= LEAST_BUSY_S and self._step.weight > 0

    @property
    def prefill_tokens_per_s(self) -> float:
        return self._prefill.value

    @property
    def decode_ms(self) -> float:
        """One step's, at the load of the last busy seconds."""
        return self._step.value * 1000

    def decode_s(self, running: int) -> float:
        """One step's with ``running`` sequences in it; 0 for none."""
        base, slope = self._line.base_and_slope
        return base + slope * running if running else 0.0

    def prefill_s(self, tokens: float) -> float:
        rate = self._prefill.value
        return tokens / rate if rate else 0.0

    @property
    def profile(self) -> MeasuredProfile:
        base, slope = self._line.base_and_slope
        return MeasuredProfile(
            round(self.prefill_tokens_per_s, 1), round(base * 1000, 3), round(slope * 1000, 4)
        )
