"""Holds one engine on an event loop in a thread of its own, between queue and mailbox.

Celery's main thread calls ``accept``; everything else runs on the loop. ``intake``
decides what enters the engine and when, ``accounting`` whose time its steps were,
``watch`` whether it lives.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import uvloop
from django.conf import settings
from redis.exceptions import RedisError

from inference import wire
from inference.engine_protocol import Engine, EngineSpec, Step
from inference.wire import Delta, Submission
from tenants.redis_link import RedisLink
from workers.engine import metrics
from workers.engine.accounting import StepAccounts
from workers.engine.bypass import BypassServer
from workers.engine.control import EarlyAborts, read_control
from workers.engine.intake import MOST_WAIT_S, Intake, Running
from workers.engine.outbox import Outbox
from workers.engine.queue_reader import QueueReader
from workers.engine.speed import Speed
from workers.engine.waits import RecentWaits
from workers.engine.watch import Watch

log = logging.getLogger(__name__)

HEARTBEAT_S = 0.5
HEARTBEATS_KEPT = 5_000
DRAIN_TIMEOUT_S = 25.0
RATE_WINDOW_S = 5.0


@dataclass(frozen=True)
class ReplicaIdentity:
    name: str
    deployment: int
    version: int


def end_process() -> None:
    """As a supervisor asks: Celery ends, the host drains, and whoever keeps it starts another."""
    os.kill(os.getpid(), signal.SIGTERM)


class EngineHost:
    """Start with ``start`` (blocks until the engine is ready), end with ``stop``."""

    def __init__(
        self,
        engine: Engine,
        spec: EngineSpec,
        identity: ReplicaIdentity,
        redis_url: str,
        on_restart: Callable[[], None] = end_process,
    ) -> None:
        """``on_restart`` has ``stop`` called, and this process started anew."""
        self.identity = identity
        self.incarnation = secrets.token_hex(8)
        self._engine = engine
        self._spec = spec
        self._redis_url = redis_url
        self._on_restart = on_restart
        self._is_stopping = False
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._run_loop, name="engine", daemon=True)
        self._state = "starting"
        self._started_at = time.time()
        self._speed = Speed()
        self._accounts = StepAccounts(self._speed)
        self._intake = Intake(spec.max_running_requests, self._speed)
        self._watch = Watch(
            self._intake.running,
            self._speed,
            self._submit,
            self._engine_died,
            preparing=lambda: self._engine.preparing,
            is_embedding=spec.kind == "embedding",
        )
        self._early_aborts = EarlyAborts()
        self._bypass = BypassServer(
            self._accept, self._abort, self._heartbeat, self._pass_by, self._held
        )
        self._reader: QueueReader | None = None
        self._waits = RecentWaits()
        self._made_tokens = 0
        # How many had been made when, as heartbeats saw it.
        self._produced: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def state(self) -> str:
        """As its health page shows it; heartbeats tell state and proof apart."""
        return self._state if self._watch.is_proven else "unproven"

    # --- Called from Celery's main thread ------------------------------------------

    def start(self, timeout_s: float) -> None:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(timeout_s)

    def accept(self, submissions: list[Submission]) -> None:
        self._loop.call_soon_threadsafe(self._accept, submissions)

    def read_queue(self, queue: str) -> None:
        """Take batches from this queue of a Redis broker, beside ``accept``."""
        asyncio.run_coroutine_threadsafe(self._read_queue(queue), self._loop).result(10)

    def stop(self) -> None:
        """Stop taking, finish what runs (bounded), free the engine, say goodbye."""
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(DRAIN_TIMEOUT_S + 30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    # --- On the loop ---------------------------------------------------------------

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    async def _start(self) -> None:
        name = self.identity.name
        self._link = RedisLink(self._redis_url, timeout_s=5, name=f"replica.{name}")
        self._control = RedisLink(self._redis_url, timeout_s=10, name=f"control.{name}")
        self._outbox = Outbox(self._link, self._gateway_gone)
        self._outbox.bypass = self._bypass
        await self._bypass.start(settings.WORKER_BYPASS_HOST)
        self._tasks = [
            asyncio.create_task(self._outbox.run()),
            asyncio.create_task(self._beat()),
            asyncio.create_task(read_control(self._control, name, self._abort, self._obey)),
        ]
        await self._engine.start(self._spec, self._emit, self._engine_died, self._stepped)
        self._watch.probe_every(self._engine.probe_every_s)
        self._intake.kv_tokens = self._engine.stats().kv_tokens
        self._state = "ready"
        self._watch.progressed()  # its warm-up was its first token
        self._tasks.append(asyncio.create_task(self._watch.run()))
        await self._send_heartbeat()
        log.info("replica.ready", extra={"replica": self.identity.name})

    async def _read_queue(self, queue: str) -> None:
        link = RedisLink(self._redis_url, timeout_s=5, name=f"queue.{self.identity.name}")
        self._reader = QueueReader(link, queue, self._accept)

    def _obey(self, order: wire.Order) -> None:
        """Draining, it finishes all that it has and all that is still sent, and ends nothing."""
        if order.incarnation != self.incarnation or self._is_stopping:
            return
        if order.verb == "restart" and self._state in {"ready", "draining"}:
            self._on_restart()
        elif order.verb == "drain" and self._state == "ready":
            self._turn("draining")
        elif order.verb == "serve" and self._state == "draining":
            self._turn("ready")
        else:
            return
        log.info("replica.order", extra={"replica": self.identity.name, "verb": order.verb})

    def _turn(self, state: str) -> None:
        """Said at once: until gateways hear it, they send as before."""
        self._state = state
        # The loop holds tasks weakly.
        self._saying = self._loop.create_task(self._send_heartbeat())

    async def _stop(self) -> None:
        self._is_stopping = True
        self._state = "draining"
        await self._send_heartbeat()  # now, so that nobody sends more for half a second
        if self._reader is not None:
            await self._reader.stop()
        deadline = time.monotonic() + DRAIN_TIMEOUT_S
        while (self._intake.running or self._intake.waiting) and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        self._refuse_all(running_reason="replica_stopping")
        await self._outbox.drained(5)
        self._state = "gone"
        await self._send_heartbeat()
        for task in self._tasks:
            task.cancel()
        await self._bypass.stop()
        await self._engine.stop()
        await self._link.aclose()
        await self._control.aclose()

    def _accept(self, submissions: list[Submission]) -> None:
        for submission in submissions:
            if self._early_aborts.take(submission.engine_id):
                self._refuse(submission, "aborted")
            elif submission.incarnation != self.incarnation:
                # Sent to a former life of this replica; its gateway has moved on.
                self._refuse(submission, "replica_restarted")
            elif (refusal := self._intake.offer(submission)) is not None:
                self._refuse(submission, refusal.reason, refusal.retry_after_s)
            else:
                # At once, so that the next one's wait is not predicted from a queue that
                # the engine has room for.
                self._feed()

    def _feed(self) -> None:
        while (running := self._intake.next()) is not None:
            submission = running.submission
            tier = submission.tier if submission.tier in MOST_WAIT_S else "standard"
            metrics.QUEUE_WAIT.labels(tier).observe(running.waited_s)
            self._waits.add(time.monotonic(), running.waited_s)
            self._accounts.open(submission.engine_id)
            self._submit(submission)

    def _submit(self, submission: Submission) -> None:
        task = self._loop.create_task(self._hand_over(submission))
        task.add_done_callback(self._handed_over)

    async def _hand_over(self, submission: Submission) -> None:
        await self._engine.submit(submission)
        if submission.gateway and submission.engine_id not in self._intake.running:
            # Aborted while the engine was taking it: only now can the engine stop it.
            self._engine.abort([submission.engine_id])

    def _handed_over(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            # The engine answers refusals by itself; what escapes it is its own fault.
            log.error("engine.submit_failed", exc_info=error)
            self._engine_died(error)

    def _stepped(self, step: Step) -> None:
        self._accounts.take(step)
        self._speed.learn(step)
        self._watch.progressed()
        metrics.ENGINE_SECONDS.inc(step.duration_s)
        if step.preempted:
            metrics.PREEMPTED.inc(step.preempted)
        if step.prefilled:  # room for further prompts, once their output is counted
            self._loop.call_soon(self._feed)

    def _emit(self, delta: Delta) -> None:
        """The engine's output; ``delta.offset`` counts from this engine's first token."""
        running = self._intake.running.get(delta.request_id)
        if running is None:
            self._watch.took(delta)
            return
        submission = running.submission
        engine_id, delta.request_id = delta.request_id, submission.request_id
        delta.attempt = submission.attempt
        delta.offset = running.emitted
        running.cached_tokens = max(running.cached_tokens, delta.cached_tokens)
        if tokens := len(delta.token_ids):
            self._intake.grew(running, tokens)
            self._made_tokens += tokens
        if not delta.finish_reason:
            # As it is spent: whoever leaves in the middle has cost something by then.
            so_far_us = self._accounts.so_far_us(engine_id)
            delta.engine_us, running.told_us = so_far_us - running.told_us, so_far_us
            self._outbox.put(submission.gateway, delta)
            return
        self._finish(engine_id, running, delta)

    def _finish(self, engine_id: str, running: Running, delta: Delta) -> None:
        self._intake.ended(engine_id)
        spent_us = self._accounts.close(engine_id)
        delta.engine_us = spent_us - running.told_us
        if delta.finish_reason in {"stop", "length"}:
            self._intake.learn(running)
        metrics.FINISHED.labels(delta.finish_reason).inc()
        self._outbox.put(
            running.submission.gateway, delta, self._usage_of(running, delta, spent_us)
        )
        self._feed()

    def _usage_of(self, running: Running, delta: Delta, spent_us: int) -> wire.WorkerUsage:
        submission = running.submission
        prompt_tokens = len(submission.prompt_ids) - submission.offset
        return wire.WorkerUsage(
            request_id=submission.request_id,
            prompt_tokens=prompt_tokens,
            cached_tokens=min(running.cached_tokens, prompt_tokens),
            completion_tokens=running.emitted,
            finish_reason=delta.finish_reason,
            replica=self.identity.name,
            finished_at=time.time(),
            engine_us=spent_us,
        )

    def _refuse(self, submission: Submission, reason: str, retry_after_s: float = 0.0) -> None:
        """Answer a sequence that will not run (further) here; its gateway goes elsewhere."""
        engine_id = submission.engine_id
        running = self._intake.running.get(engine_id)
        if running is not None:
            self._intake.ended(engine_id)
        metrics.REFUSED.labels(reason).inc()
        self._outbox.put(
            submission.gateway,
            Delta(
                request_id=submission.request_id,
                attempt=submission.attempt,
                # Where its output stands: at any other place it would read as a repetition.
                offset=running.emitted if running else submission.offset,
                token_ids=[],
                text="",
                finish_reason="error",
                error=reason,
                engine_us=self._accounts.close(engine_id) - (running.told_us if running else 0),
                retry_after_ms=round(retry_after_s * 1000),
            ),
        )

    def _refuse_all(self, running_reason: str) -> None:
        """What only waited has done nothing to the engine, and says so."""
        for running in list(self._intake.running.values()):
            self._refuse(running.submission, running_reason)
        waiting = list(self._intake.all_waiting())
        self._intake.remove({each.engine_id for each in waiting})
        for submission in waiting:
            self._refuse(submission, "replica_stopping")

    def _abort(self, engine_ids: list[str]) -> None:
        waiting = self._intake.remove(set(engine_ids))
        for submission in waiting:
            self._refuse(submission, "aborted")
        running = [each for each in engine_ids if each in self._intake.running]
        self._early_aborts.remember(
            set(engine_ids).difference(running, (each.engine_id for each in waiting))
        )
        if running:
            metrics.ABORTED.inc(len(running))
            self._engine.abort(running)

    def _gateway_gone(self, gateway: str) -> None:
        running = (each.submission for each in self._intake.running.values())
        orphans = [
            each for each in [*running, *self._intake.all_waiting()] if each.gateway == gateway
        ]
        self._abort([orphan.engine_id for orphan in orphans])

    def _held(self) -> set[str]:
        """The attempts that run or wait here."""
        return {*self._intake.running, *(each.engine_id for each in self._intake.all_waiting())}

    def _pass_by(self) -> None:
        self._outbox.pass_by()

    def _engine_died(self, error: BaseException) -> None:
        """Tell the gateways, then end the process: its supervisor starts a clean one."""
        if self._state == "gone":
            return
        self._state = "gone"
        log.critical("engine.died", extra={"error": repr(error)})
        self._refuse_all(running_reason="engine_died")
        self._loop.create_task(self._leave())

    async def _leave(self) -> None:
        try:
            await self._send_heartbeat()
            await self._outbox.drained(3)
        finally:
            # Not sys.exit: Celery's shutdown would wait for an engine that is dead.
            os._exit(70)

    # --- Heartbeats ------------------------------------------------------------------

    async def _beat(self) -> None:
        while True:
            await self._send_heartbeat()
            await asyncio.sleep(HEARTBEAT_S)

    async def _send_heartbeat(self) -> None:
        try:
            await self._link.call(
                *("XADD", wire.HEARTBEATS, "MAXLEN", "~", HEARTBEATS_KEPT, "*"),
                *("h", wire.encode(self._heartbeat())),
            )
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("heartbeat.failed", extra={"error": repr(error)})

    def _heartbeat(self) -> wire.Heartbeat:
        kv_cache_usage = self._engine.stats().kv_cache_usage if self._state != "starting" else 0.0
        self._show(kv_cache_usage)
        return wire.Heartbeat(
            replica=self.identity.name,
            incarnation=self.incarnation,
            deployment=self.identity.deployment,
            version=self.identity.version,
            state=self._state,
            engine=self._engine.name,
            node=socket.gethostname(),
            started_at=self._started_at,
            running=len(self._intake.running),
            waiting=self._intake.waiting,
            kv_cache_usage=kv_cache_usage,
            tokens_per_second=self._tokens_per_second(),
            capacity=self._spec.max_running_requests,
            prefill_tokens_per_s=self._speed.prefill_tokens_per_s,
            decode_ms=self._speed.decode_ms,
            kv_tokens=self._intake.kv_tokens,
            is_proven=self._watch.is_proven,
            bypass=self._bypass.address,
            queue_wait_ms=self._waits.p95_ms(time.monotonic()),
        )

    def _show(self, kv_cache_usage: float) -> None:
        metrics.RUNNING.set(len(self._intake.running))
        metrics.WAITING.set(self._intake.waiting)
        metrics.KV_CACHE.set(kv_cache_usage)
        metrics.UNATTRIBUTED_SECONDS.set(self._accounts.unattributed_s)
        profile = self._speed.profile
        metrics.PREFILL_SPEED.set(profile.prefill_tokens_per_s)
        metrics.DECODE_BASE.set(profile.decode_ms / 1000)
        metrics.DECODE_SLOPE.set(profile.decode_ms_per_running / 1000)

    def _tokens_per_second(self) -> float:
        """Since ``RATE_WINDOW_S`` ago; a heartbeat at a time, for a counter takes a lock."""
        now, produced = time.monotonic(), self._produced
        metrics.GENERATED_TOKENS.inc(self._made_tokens - produced[-1][1])
        produced.append((now, self._made_tokens))
        while produced[1][0] <= now - RATE_WINDOW_S:
            produced.popleft()
        return (self._made_tokens - produced[0][1]) / RATE_WINDOW_S
