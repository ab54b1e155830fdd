"""Watches an engine on its event loop: probes it when idle, and calls it dead when it is."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Iterable

import psutil

from inference.wire import Delta, Sampling, Submission
from workers.engine import metrics
from workers.engine.intake import Running
from workers.engine.liveness import Liveness, Verdict
from workers.engine.speed import Speed

log = logging.getLogger(__name__)

TICK_S = 0.5
# No engine computes more prompt tokens in one step than so: vLLM's largest default.
MOST_STEP_TOKENS = 8_192
# Until it is measured: a slow CPU's.
UNKNOWN_PREFILL_TOKENS_PER_S = 200.0
# Steps vary; one as long as twice the expected is not yet a hung engine.
SLACK = 2.0
# Of a core: what sleeps or was stopped uses none, what compiles uses all of one.
COMPUTING_SHARE = 0.3


class Watch:
    """``run`` as a task, once the engine is ready."""

    def __init__(
        self,
        running: dict[str, Running],
        speed: Speed,
        submit: Callable[[Submission], None],
        on_dead: Callable[[BaseException], None],
        *,
        preparing: Callable[[], int] = lambda: 0,
        is_embedding: bool,
    ):
        self.is_proven = True
        self._preparing = preparing
        self._running = running
        self._speed = speed
        self._submit = submit
        self._on_dead = on_dead
        self._sampling = None if is_embedding else Sampling(max_tokens=1, temperature=0.0)
        self._liveness = Liveness(time.monotonic())
        self._children = _Children()
        self._serial = itertools.count()
        self._probe_id = ""

    def probe_every(self, seconds: float) -> None:
        self._liveness.probe_every_s = seconds

    async def run(self) -> None:
        while True:
            self.tick()
            await asyncio.sleep(TICK_S)

    def progressed(self) -> None:
        self._liveness.progressed(time.monotonic())
        self._set_proven(True)

    def took(self, delta: Delta) -> bool:
        """Whether this output is the probe's, which concerns nobody else."""
        if delta.request_id != self._probe_id:
            return False
        # An error is no proof: the probe stays owed, and its engine is found dead.
        if delta.token_ids or delta.embedding:
            self._probe_id = ""
            self.progressed()
        return True

    def tick(self) -> None:
        verdict = self._liveness.judge(
            time.monotonic(),
            has_work=len(self._running) > self._preparing() or bool(self._probe_id),
            patience_s=self._longest_step_s(),
            # Looked at only when it matters: it reads a file for each process.
            is_computing=not self.is_proven and self._children.is_computing(),
        )
        if verdict is Verdict.PROBE:
            self._probe()
        elif verdict is Verdict.UNPROVEN:
            self._set_proven(False)
        elif verdict is Verdict.DEAD:
            self._on_dead(TimeoutError("the engine owes output and makes none"))

    def _longest_step_s(self) -> float:
        """Of the prompts that are to be computed; decoding takes far less than the bounds."""
        tokens = min(MOST_STEP_TOKENS, sum(_prompts_to_compute(self._running.values())))
        rate = self._speed.prefill_tokens_per_s or UNKNOWN_PREFILL_TOKENS_PER_S
        return SLACK * tokens / rate

    def _probe(self) -> None:
        submission = Submission(
            request_id=f"probe-{next(self._serial)}",
            attempt=0,
            gateway="",
            incarnation="",
            organization=0,
            weight=1,
            prompt_ids=[1, 2, 3],
            sampling=self._sampling,
            cache_salt="",
            submitted_at=time.time(),
        )
        self._probe_id = submission.engine_id
        metrics.PROBES.inc()
        self._submit(submission)

    def _set_proven(self, is_proven: bool) -> None:
        if is_proven == self.is_proven:
            return
        self.is_proven = is_proven
        metrics.PROVEN.set(is_proven)
        if not is_proven:
            metrics.UNPROVEN.inc()
            log.error("engine.unproven", extra={"running": len(self._running)})
        else:
            log.warning("engine.proven_again")


class _Children:
    """The processes of an engine that has its own, by the CPU time they use."""

    def __init__(self) -> None:
        self._looked_at = self._used_s = 0.0

    def is_computing(self) -> bool:
        """Whether they used a good part of a core since they were last looked at."""
        now, used_s = time.monotonic(), _cpu_s_of_children()
        passed_s = now - self._looked_at
        is_computing = used_s - self._used_s >= COMPUTING_SHARE * passed_s
        self._looked_at, self._used_s = now, used_s
        return is_computing


def _cpu_s_of_children() -> float:
    used_s = 0.0
    for child in psutil.Process().children(recursive=True):
        try:
            times = child.cpu_times()
        except psutil.Error:
            continue  # ended meanwhile
        used_s += times.user + times.system
    return used_s


def _prompts_to_compute(running: Iterable[Running]) -> Iterable[int]:
    return (len(each.submission.prompt_ids) for each in running if not each.has_output)
