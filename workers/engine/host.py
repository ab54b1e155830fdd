"""Holds one engine on an event loop in a thread of its own, between queue and mailbox.

Celery's main thread calls ``accept``; everything else runs on the loop. The
engine gets no more sequences than it can run, the rest wait in the fair queue.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import threading
import time
from collections import OrderedDict, deque
from dataclasses import dataclass

import msgspec
import uvloop
from redis.exceptions import RedisError

from inference import wire
from inference.engine_protocol import Engine, EngineSpec
from inference.streams import read_after
from inference.wire import Delta, Submission
from tenants.redis_link import RedisLink
from workers.engine import metrics
from workers.engine.fair_queue import FairQueue
from workers.engine.outbox import Outbox

log = logging.getLogger(__name__)

HEARTBEAT_S = 0.5
HEARTBEATS_KEPT = 5_000
# Beyond this many waiting sequences a replica answers "overloaded" at once; at
# some 500 output tokens/s a longer queue means minutes, not seconds.
MOST_WAITING = 2_048
DRAIN_TIMEOUT_S = 25.0
RATE_WINDOW_S = 5.0
# Aborts that may be ahead of what they abort; a client leaves at most this many early.
EARLY_ABORTS_KEPT = 10_000


@dataclass(frozen=True)
class ReplicaIdentity:
    name: str
    deployment: int
    version: int


@dataclass
class _Running:
    submission: Submission
    emitted: int
    cached_tokens: int = 0


class EngineHost:
    """Start with ``start`` (blocks until the engine is ready), end with ``stop``."""

    def __init__(
        self,
        engine: Engine,
        spec: EngineSpec,
        identity: ReplicaIdentity,
        redis_url: str,
    ) -> None:
        self.identity = identity
        self.incarnation = secrets.token_hex(8)
        self._engine = engine
        self._spec = spec
        self._redis_url = redis_url
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._run_loop, name="engine", daemon=True)
        self._state = "starting"
        self._started_at = time.time()
        self._queue = FairQueue()
        self._running: dict[str, _Running] = {}
        self._aborted_early: OrderedDict[str, None] = OrderedDict()
        self._produced: deque[tuple[float, int]] = deque()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def state(self) -> str:
        return self._state

    # --- Called from Celery's main thread ------------------------------------------

    def start(self, timeout_s: float) -> None:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(timeout_s)

    def accept(self, submissions: list[Submission]) -> None:
        self._loop.call_soon_threadsafe(self._accept, submissions)

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
        self._tasks = [
            asyncio.create_task(self._outbox.run()),
            asyncio.create_task(self._beat()),
            asyncio.create_task(self._read_control()),
        ]
        await self._engine.start(self._spec, self._emit, self._engine_died)
        self._state = "ready"
        await self._send_heartbeat()
        log.info("replica.ready", extra={"replica": self.identity.name})

    async def _stop(self) -> None:
        self._state = "draining"
        await self._send_heartbeat()  # now, so that nobody sends more for half a second
        deadline = time.monotonic() + DRAIN_TIMEOUT_S
        while (self._running or len(self._queue)) and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        for running in list(self._running.values()):
            self._refuse(running.submission, "replica_stopping")
        while len(self._queue):
            self._refuse(self._queue.pop(), "replica_stopping")
        await self._outbox.drained(5)
        self._state = "gone"
        await self._send_heartbeat()
        for task in self._tasks:
            task.cancel()
        await self._engine.stop()
        await self._link.aclose()
        await self._control.aclose()

    def _accept(self, submissions: list[Submission]) -> None:
        for submission in submissions:
            if submission.engine_id in self._aborted_early:
                del self._aborted_early[submission.engine_id]
                self._refuse(submission, "aborted")
            elif submission.incarnation != self.incarnation:
                # Sent to a former life of this replica; its gateway has moved on.
                self._refuse(submission, "replica_restarted")
            elif len(self._queue) >= MOST_WAITING:
                self._refuse(submission, "overloaded")
            else:
                self._queue.push(submission)
        self._feed()

    def _feed(self) -> None:
        while len(self._queue) and len(self._running) < self._spec.max_running_requests:
            submission = self._queue.pop()
            self._running[submission.engine_id] = _Running(submission, submission.offset)
            task = self._loop.create_task(self._submit(submission))
            task.add_done_callback(self._submitted)

    async def _submit(self, submission: Submission) -> None:
        await self._engine.submit(submission)
        if submission.engine_id not in self._running:
            # Aborted while the engine was taking it: only now can the engine stop it.
            self._engine.abort([submission.engine_id])

    def _submitted(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            # The engine answers refusals by itself; what escapes it is its own fault.
            log.error("engine.submit_failed", exc_info=error)
            self._engine_died(error)

    def _emit(self, delta: Delta) -> None:
        """The engine's output; ``delta.offset`` counts from this engine's first token."""
        running = self._running.get(delta.request_id)
        if running is None:
            return
        submission = running.submission
        engine_id, delta.request_id = delta.request_id, submission.request_id
        delta.attempt = submission.attempt
        delta.offset = running.emitted
        running.emitted += len(delta.token_ids)
        running.cached_tokens = max(running.cached_tokens, delta.cached_tokens)
        tokens = len(delta.token_ids)
        if tokens:
            self._queue.charge_output(submission, tokens)
            self._produced.append((time.monotonic(), tokens))
            metrics.GENERATED_TOKENS.inc(tokens)
        usage = None
        if delta.finish_reason:
            del self._running[engine_id]
            usage = self._usage_of(running, delta)
            metrics.FINISHED.labels(delta.finish_reason).inc()
        self._outbox.put(submission.gateway, delta, usage)
        if usage is not None:
            self._feed()

    def _usage_of(self, running: _Running, delta: Delta) -> wire.WorkerUsage:
        submission = running.submission
        return wire.WorkerUsage(
            request_id=submission.request_id,
            prompt_tokens=len(submission.prompt_ids) - submission.offset,
            cached_tokens=min(
                running.cached_tokens, len(submission.prompt_ids) - submission.offset
            ),
            completion_tokens=running.emitted,
            finish_reason=delta.finish_reason,
            replica=self.identity.name,
            finished_at=time.time(),
        )

    def _refuse(self, submission: Submission, reason: str) -> None:
        """Answer a sequence that will not run (further) here; its gateway goes elsewhere."""
        running = self._running.pop(submission.engine_id, None)
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
            ),
        )

    def _abort(self, engine_ids: list[str]) -> None:
        waiting = self._queue.remove(set(engine_ids))
        for submission in waiting:
            self._refuse(submission, "aborted")
        running = [engine_id for engine_id in engine_ids if engine_id in self._running]
        self._remember_early(
            set(engine_ids).difference(running, (each.engine_id for each in waiting))
        )
        if running:
            metrics.ABORTED.inc(len(running))
            self._engine.abort(running)

    def _remember_early(self, engine_ids: set[str]) -> None:
        """Aborts travel by a shorter way than work: what they name may still be coming."""
        for engine_id in engine_ids:
            self._aborted_early[engine_id] = None
        while len(self._aborted_early) > EARLY_ABORTS_KEPT:
            self._aborted_early.popitem(last=False)

    def _gateway_gone(self, gateway: str) -> None:
        submissions = [running.submission for running in self._running.values()]
        orphans = [each for each in [*submissions, *self._queue] if each.gateway == gateway]
        self._abort([orphan.engine_id for orphan in orphans])

    def _engine_died(self, error: BaseException) -> None:
        """Tell the gateways, then end the process: its supervisor starts a clean one."""
        if self._state == "gone":
            return
        self._state = "gone"
        log.critical("engine.died", extra={"error": repr(error)})
        for running in list(self._running.values()):
            self._refuse(running.submission, "engine_died")
        while len(self._queue):
            self._refuse(self._queue.pop(), "engine_died")
        self._loop.create_task(self._leave())

    async def _leave(self) -> None:
        try:
            await self._send_heartbeat()
            await self._outbox.drained(3)
        finally:
            # Not sys.exit: Celery's shutdown would wait for an engine that is dead.
            os._exit(70)

    # --- Heartbeats and control ------------------------------------------------------

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
        waiting = len(self._queue)
        kv_cache_usage = self._engine.stats().kv_cache_usage if self._state != "starting" else 0.0
        rate = self._tokens_per_second()
        metrics.RUNNING.set(len(self._running))
        metrics.WAITING.set(waiting)
        metrics.KV_CACHE.set(kv_cache_usage)
        return wire.Heartbeat(
            replica=self.identity.name,
            incarnation=self.incarnation,
            deployment=self.identity.deployment,
            version=self.identity.version,
            state=self._state,
            engine=self._engine.name,
            node=socket.gethostname(),
            started_at=self._started_at,
            running=len(self._running),
            waiting=waiting,
            kv_cache_usage=kv_cache_usage,
            tokens_per_second=rate,
            capacity=self._spec.max_running_requests,
        )

    def _tokens_per_second(self) -> float:
        horizon = time.monotonic() - RATE_WINDOW_S
        while self._produced and self._produced[0][0] < horizon:
            self._produced.popleft()
        return sum(tokens for _, tokens in self._produced) / RATE_WINDOW_S

    async def _read_control(self) -> None:
        """Aborts come by their own stream, so that none waits behind a queue of work."""
        stream = wire.control_of(self.identity.name)
        # From the beginning: what was aborted in a former life is not here any more, and
        # a start named by this machine's clock would miss aborts if Redis's is behind.
        position: bytes | str = "0-0"
        while True:
            try:
                messages = await read_after(
                    self._control, stream, position, block_ms=5000, count=100
                )
            except (RedisError, OSError, TimeoutError) as error:
                log.warning("control.lost", extra={"error": repr(error)})
                await asyncio.sleep(0.5)
                continue
            for message_id, fields in messages:
                position = message_id
                try:
                    self._abort(wire.decode_abort(fields.get(b"a", b"")).engine_ids)
                except msgspec.MsgspecError as error:
                    log.error("control.unreadable", extra={"error": repr(error)})
