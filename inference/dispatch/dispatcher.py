"""Runs sequences on replicas and keeps each of them one unbroken stream.

A delta says which tokens it holds (attempt and offset). What comes twice is
dropped; a gap, an error of the replica, or its silence makes the dispatcher
continue on another one from the prompt plus the tokens that arrived.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import OrderedDict
from collections.abc import Iterable

import msgspec
from django.conf import settings
from redis.exceptions import RedisError

from inference import metrics, wire
from inference.dispatch.batching import Speed
from inference.dispatch.publisher import BatchRecord, Publisher
from inference.dispatch.senders import make_sender
from inference.dispatch.sequence import Job, Sequence
from inference.errors import (
    InferenceError,
    InvalidRequest,
    NoReplica,
    Overloaded,
    RequestFailed,
    RequestTimedOut,
)
from inference.fleet import Fleet
from inference.routing import ReplicaView, Weights, choose
from inference.streams import read_after
from inference.wire import Delta, Submission
from tenants.redis_link import RedisLink

log = logging.getLogger(__name__)

MOST_ATTEMPTS = 4
PUBLISH_RETRY_S = 0.1
# How long a broken-off sequence waits for a replica to come (back): a CPU replica
# loads in 40 s.
MOST_PARKED_S = 120.0
SUPERVISE_S = 0.25
MAILBOX_EXPIRY_MS = 15_000
MAILBOX_UPKEEP_S = 1.0
PREFIX_TOKENS = 64
ABORTS_KEPT = 1_000
# A replica reads its aborts within seconds; the stream of one that never returns must go.
ABORTS_EXPIRY_MS = 3_600_000
PREFIXES_KEPT = 20_000
# What a replica answers that says nothing about the request itself.
_REFUSALS = frozenset(
    {
        "replica_restarted",
        "replica_stopping",
        "engine_died",
        "engine_error",
        "overloaded",
    }
)
# A refusal after which waiting for a replica could only repeat it.
_HOPELESS: dict[str, tuple[type[InferenceError], str]] = {
    "overloaded": (Overloaded, "The model is overloaded. Try again shortly."),
    "engine_error": (RequestFailed, "The model's engine failed on this request."),
}
# What a caller hears when nobody can go on.
_STOPPED = (RequestFailed, "The model's engine stopped during this request.")
_GIVEN_UP: dict[str, tuple[type[InferenceError], str]] = {
    "publish_failed": (NoReplica, "The model cannot be reached right now. Try again shortly."),
}


class Dispatcher:
    """One for each gateway process. ``start`` and ``stop`` on its event loop."""

    def __init__(self, redis_url: str, gateway: str):
        self.gateway = gateway
        timeout_s = settings.REDIS_TIMEOUT_S
        self._link = RedisLink(redis_url, timeout_s=timeout_s, name=f"dispatch.{gateway}")
        # Reading blocks a link, so each stream has one of its own.
        self._mailbox = RedisLink(redis_url, timeout_s=timeout_s + 5, name=f"mailbox.{gateway}")
        self._heartbeats = RedisLink(redis_url, timeout_s=timeout_s + 5, name=f"fleet.{gateway}")
        self.fleet = Fleet(self._heartbeats, self._replica_changed)
        self._sequences: dict[str, Sequence] = {}
        self._parked: dict[str, Sequence] = {}
        self._prefixes: OrderedDict[int, str] = OrderedDict()
        self._weights = Weights()
        self._tasks: list[asyncio.Task[None]] = []
        self._aborts: dict[str, list[str]] = {}
        self._abort_tasks: set[asyncio.Task[None]] = set()
        self._mailbox_read_to: bytes | str = "0-0"

    async def start(self) -> None:
        sender = make_sender(self._link)
        self._publisher = Publisher(sender, self._publish_failed, self._speed_of)
        await self._keep_mailbox()
        self._tasks = [
            asyncio.create_task(self._read_mailbox()),
            asyncio.create_task(self.fleet.run()),
            asyncio.create_task(self._supervise()),
            asyncio.create_task(self._keep_mailbox_for_ever()),
        ]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._publisher.close()
        try:
            await self._link.call("DEL", wire.mailbox_of(self.gateway))
        except (RedisError, OSError, TimeoutError):
            log.info("dispatcher.mailbox_left", extra={"gateway": self.gateway})
        for link in (self._link, self._mailbox, self._heartbeats):
            await link.aclose()

    @property
    def recent_batches(self) -> list[BatchRecord]:
        return list(self._publisher.recent)

    @property
    def in_flight(self) -> int:
        return len(self._sequences)

    def has_replica(self, deployments: Iterable[int]) -> bool:
        return any(
            replica.state == "ready"
            for deployment in deployments
            for replica in self.fleet.of_deployment(deployment).values()
        )

    def submit(self, job: Job) -> Sequence:
        """Start a sequence, or raise NoReplica when none of its deployments has one."""
        sequence = Sequence(job)
        if not self._place(sequence):
            raise NoReplica("No replica of this model is ready. Try again shortly.")
        self._sequences[job.request_id] = sequence
        return sequence

    def cancel(self, sequence: Sequence) -> None:
        """Stop a sequence whose caller is gone; safe at any time."""
        if self._sequences.pop(sequence.job.request_id, None) is None:
            return
        self._parked.pop(sequence.job.request_id, None)
        self._leave_replica(sequence)
        if not sequence.is_done:
            self._abort(sequence)
        sequence.is_done = True

    def _speed_of(self, name: str) -> Speed:
        replica = self.fleet.replicas.get(name)
        if replica is None:
            return Speed()
        return Speed(
            replica.prefill_tokens_per_s,
            replica.decode_ms / 1000,
            replica.kv_tokens,
            replica.load,
        )

    # --- Placing ---------------------------------------------------------------------

    def _place(self, sequence: Sequence) -> bool:
        """Choose a replica and hand the sequence to the publisher."""
        job = sequence.job
        prefix = hash((job.organization, *job.prompt_ids[:PREFIX_TOKENS]))
        for served in job.candidates:
            replica = choose(
                self.fleet.of_deployment(served.deployment).values(),
                region=job.region,
                must_stay_in_region=job.must_stay_in_region,
                prefix_replica=self._prefixes.get(prefix),
                weights=self._weights,
                excluded=frozenset(sequence.excluded),
            )
            if replica is not None:
                self._remember_prefix(prefix, replica.name)
                sequence.served = served
                self._hand_over(sequence, replica)
                return True
        return False

    def _remember_prefix(self, prefix: int, replica: str) -> None:
        self._prefixes[prefix] = replica
        self._prefixes.move_to_end(prefix)
        if len(self._prefixes) > PREFIXES_KEPT:
            self._prefixes.popitem(last=False)

    def _hand_over(self, sequence: Sequence, replica: ReplicaView) -> None:
        sequence.replica, sequence.incarnation = replica.name, replica.incarnation
        replica.in_flight += 1
        profile = sequence.served.batching_profile if sequence.served else "latency"
        self._publisher.submit(replica.name, self._submission(sequence), profile)

    def _submission(self, sequence: Sequence) -> Submission:
        job, done = sequence.job, len(sequence.output_ids)
        sampling = job.sampling
        if sampling is not None and done:
            sampling = msgspec.structs.replace(
                sampling,
                max_tokens=sampling.max_tokens - done,
                min_tokens=max(0, sampling.min_tokens - done),
            )
        return Submission(
            request_id=job.request_id,
            attempt=sequence.attempt,
            gateway=self.gateway,
            incarnation=sequence.incarnation,
            organization=job.organization,
            weight=job.weight,
            prompt_ids=job.prompt_ids + sequence.output_ids if done else job.prompt_ids,
            sampling=sampling,
            cache_salt=job.cache_salt,
            submitted_at=time.time(),
            offset=done,
        )

    def _leave_replica(self, sequence: Sequence) -> None:
        replica = self.fleet.replicas.get(sequence.replica)
        if replica is not None and replica.incarnation == sequence.incarnation:
            replica.in_flight -= 1

    # --- Continuing elsewhere ----------------------------------------------------------

    def _continue_elsewhere(self, sequence: Sequence, reason: str) -> None:
        """The replica will not finish this sequence: go on somewhere else, or end it."""
        job = sequence.job
        self._leave_replica(sequence)
        replica = self.fleet.replicas.get(sequence.replica)
        if replica is not None and reason != "replica_stopping":
            replica.failures += 1
        # Should it still run there, it must not: its tokens would be made twice.
        self._abort(sequence)
        sequence.attempt += 1  # whatever the old replica still sends is void from here
        if reason in _REFUSALS:
            sequence.excluded.add(sequence.incarnation)
        can_go_on = not sequence.output_ids or (
            job.sampling is not None and job.sampling.can_continue
        )
        if not can_go_on or sequence.attempt > MOST_ATTEMPTS:
            error, message = _GIVEN_UP.get(reason, _STOPPED)
            self._fail(sequence, error(message))
            return
        if job.sampling is not None and len(sequence.output_ids) >= job.sampling.max_tokens:
            # Only the last delta was lost, and it could have held nothing but the end.
            self._finish(
                sequence,
                Delta(job.request_id, sequence.attempt, 0, [], "", finish_reason="length"),
            )
            return
        metrics.CONTINUED.labels(reason).inc()
        log.warning(
            "dispatch.continued",
            extra={
                "request_id": job.request_id,
                "reason": reason,
                "replica": sequence.replica,
            },
        )
        if not self._place(sequence):
            if reason in _HOPELESS:
                error, message = _HOPELESS[reason]
                self._fail(sequence, error(message))
                return
            sequence.replica = sequence.incarnation = ""
            sequence.parked_since = time.monotonic()
            self._parked[job.request_id] = sequence

    def _fail(self, sequence: Sequence, error: InferenceError) -> None:
        self._sequences.pop(sequence.job.request_id, None)
        self._parked.pop(sequence.job.request_id, None)
        sequence.fail(error)

    def _finish(self, sequence: Sequence, delta: Delta) -> None:
        self._sequences.pop(sequence.job.request_id, None)
        sequence.accept(delta)

    def _replica_changed(self, replica: ReplicaView) -> None:
        if replica.state == "gone":
            for sequence in list(self._sequences.values()):
                if sequence.incarnation == replica.incarnation:
                    self._continue_elsewhere(sequence, "replica_gone")
        elif replica.state == "ready":
            for request_id, sequence in list(self._parked.items()):
                if self._place(sequence):
                    sequence.parked_since = None
                    del self._parked[request_id]

    def _publish_failed(self, replica: str, batch: list[Submission]) -> None:
        loop = asyncio.get_running_loop()
        for submission in batch:
            # Longer with each attempt: the broker that refused this one has not changed yet.
            delay_s = PUBLISH_RETRY_S * 2**submission.attempt * random.uniform(0.5, 1.0)  # noqa: S311
            loop.call_later(delay_s, self._publish_again, submission)

    def _publish_again(self, submission: Submission) -> None:
        sequence = self._sequences.get(submission.request_id)
        if sequence is not None and sequence.attempt == submission.attempt:
            self._continue_elsewhere(sequence, "publish_failed")

    # --- Supervision -------------------------------------------------------------------

    async def _supervise(self) -> None:
        while True:
            await asyncio.sleep(SUPERVISE_S)
            self._check_silence()
            self._check_ages()

    def _check_silence(self) -> None:
        if not self.fleet.is_connected:
            return
        # Against the last time we listened, not against now: a process that stood still
        # for seconds has heard nobody, and must not take them all for dead.
        horizon = self.fleet.heard_at - settings.REPLICA_SILENCE_S
        for replica in list(self.fleet.replicas.values()):
            if replica.seen_at < horizon and replica.state != "gone":
                log.warning("replica.silent", extra={"replica": replica.name})
                # Its next heartbeat, if it lives, brings it back with what it says then.
                self.fleet.forget(replica.name)
        self.fleet.forget_silent()

    def _check_ages(self) -> None:
        now = time.monotonic()
        for sequence in list(self._sequences.values()):
            if now - sequence.started_at > settings.REQUEST_TIMEOUT_S:
                self._leave_replica(sequence)
                self._abort(sequence)
                self._fail(sequence, RequestTimedOut("The request took too long."))
            elif sequence.parked_since and now - sequence.parked_since > MOST_PARKED_S:
                self._fail(sequence, NoReplica("No replica of this model came back in time."))

    # --- The mailbox ---------------------------------------------------------------------

    async def _read_mailbox(self) -> None:
        stream = wire.mailbox_of(self.gateway)
        while True:
            try:
                messages = await read_after(
                    self._mailbox, stream, self._mailbox_read_to, block_ms=2000, count=200
                )
            except (RedisError, OSError, TimeoutError) as error:
                log.warning("mailbox.lost", extra={"error": repr(error)})
                await asyncio.sleep(0.1)
                continue
            for self._mailbox_read_to, fields in messages:
                for delta in _deltas_of(fields):
                    self._deliver(delta)

    def _deliver(self, delta: Delta) -> None:
        sequence = self._sequences.get(delta.request_id)
        if sequence is None or delta.attempt != sequence.attempt:
            return  # cancelled, finished, or from a replica that was given up
        received = len(sequence.output_ids)
        if delta.offset < received:
            return  # written twice by a retry
        if delta.offset > received:
            self._continue_elsewhere(sequence, "gap")
        elif delta.finish_reason == "error":
            self._refused(sequence, delta.error)
        elif delta.finish_reason == "abort":
            self._continue_elsewhere(sequence, "aborted")
        elif delta.finish_reason:
            self._leave_replica(sequence)
            self._finish(sequence, delta)
        else:
            sequence.accept(delta)

    def _refused(self, sequence: Sequence, reason: str) -> None:
        if reason in _REFUSALS:
            self._continue_elsewhere(sequence, reason)
            return
        self._leave_replica(sequence)
        if reason == "invalid_parameters":
            self._fail(sequence, InvalidRequest("The engine refuses these parameters."))
        else:
            self._fail(sequence, RequestFailed("The engine could not finish this request."))

    async def _keep_mailbox(self) -> None:
        """Create the mailbox if it is not there, trim what was read, renew its expiry.

        It expires when this process dies, which tells workers to stop its requests.
        """
        mailbox = wire.mailbox_of(self.gateway)
        await self._link.call("XTRIM", mailbox, "MINID", "~", self._mailbox_read_to)
        if not await self._link.call("PEXPIRE", mailbox, MAILBOX_EXPIRY_MS):
            await self._link.call("XADD", mailbox, "*", "hello", "1")
            await self._link.call("PEXPIRE", mailbox, MAILBOX_EXPIRY_MS)

    async def _keep_mailbox_for_ever(self) -> None:
        while True:
            await asyncio.sleep(MAILBOX_UPKEEP_S)
            try:
                await self._keep_mailbox()
            except (RedisError, OSError, TimeoutError) as error:
                log.warning("mailbox.upkeep_failed", extra={"error": repr(error)})

    # --- Aborts ----------------------------------------------------------------------------

    def _abort(self, sequence: Sequence) -> None:
        """Tell the replica to stop; aborts of one moment leave together."""
        if not sequence.replica:
            return
        if self._publisher.withdraw(sequence.replica, sequence.job.request_id):
            return
        waiting = self._aborts.setdefault(sequence.replica, [])
        waiting.append(wire.engine_id(sequence.job.request_id, sequence.attempt))
        if len(waiting) == 1:
            task = asyncio.get_running_loop().create_task(self._send_aborts(sequence.replica))
            self._abort_tasks.add(task)
            task.add_done_callback(self._abort_tasks.discard)

    async def _send_aborts(self, replica: str) -> None:
        engine_ids = self._aborts.pop(replica)
        control = wire.control_of(replica)
        try:
            await self._link.call(
                *("XADD", control, "MAXLEN", "~", ABORTS_KEPT, "*"),
                *("a", wire.encode(wire.Abort(engine_ids))),
            )
            await self._link.call("PEXPIRE", control, ABORTS_EXPIRY_MS)
        except (RedisError, OSError, TimeoutError) as error:
            # The sequence then runs to its max_tokens; its output is dropped.
            log.warning("abort.failed", extra={"replica": replica, "error": repr(error)})


def _deltas_of(fields: dict[bytes, bytes]) -> list[Delta]:
    """A mailbox message's deltas; none of one that makes no sense, which is a gap to come."""
    if b"d" not in fields:
        return []
    try:
        return wire.decode_deltas(fields[b"d"])
    except msgspec.MsgspecError as error:
        log.error("mailbox.unreadable", extra={"error": repr(error)})
        return []
