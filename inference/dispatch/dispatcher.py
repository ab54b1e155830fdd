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
from collections.abc import Callable, Collection, Iterable

import msgspec
from django.conf import settings
from redis.exceptions import RedisError

from inference import metrics, wire
from inference.dispatch import live, quarantine
from inference.dispatch.aborts import Aborts
from inference.dispatch.batching import Speed
from inference.dispatch.bypass import Bypass, BypassSender
from inference.dispatch.mailbox import Mailbox
from inference.dispatch.placement import Decision, Placement
from inference.dispatch.publisher import BatchRecord, Publisher
from inference.dispatch.reasons import FAULTS, GIVEN_UP, HOPELESS, REFUSALS, STOPPED
from inference.dispatch.senders import make_sender
from inference.dispatch.sequence import Job, Sequence
from inference.dispatch.shares import Shares
from inference.errors import (
    InferenceError,
    InvalidRequest,
    NoReplica,
    RequestFailed,
    RequestQuarantined,
    RequestTimedOut,
)
from inference.fleet import QUARANTINE_STREAM, Fleet
from inference.registry import Served
from inference.routing import ReplicaView
from inference.wire import Delta, Submission
from tenants.redis_link import RedisLink

log = logging.getLogger(__name__)

MOST_ATTEMPTS = 4
PUBLISH_RETRY_S = 0.1
# How long a broken-off sequence waits for a replica to come (back): a CPU replica
# loads in 40 s.
MOST_PARKED_S = 120.0
SUPERVISE_S = 0.25
# After Redis lost its data: what did not move for this long was in what it lost.
LOST_AFTER_S = 2.0
# A replica that says for this long that it holds nothing will not answer what it was given.
EMPTY_AFTER_S = 5.0


class Dispatcher:
    """One for each gateway process. ``start`` and ``stop`` on its event loop."""

    def __init__(self, redis_url: str, gateway: str):
        self.gateway = gateway
        timeout_s = settings.REDIS_TIMEOUT_S
        self._link = RedisLink(redis_url, timeout_s=timeout_s, name=f"dispatch.{gateway}")
        # Reading blocks a link, so each stream has one of its own.
        letters = RedisLink(redis_url, timeout_s=timeout_s + 5, name=f"mailbox.{gateway}")
        beats = RedisLink(redis_url, timeout_s=timeout_s + 5, name=f"fleet.{gateway}")
        self._links = (self._link, letters, beats)
        self._quarantine = quarantine.Quarantine()
        self.fleet = Fleet(beats, self._replica_changed, self._quarantine.add)
        self.placement = Placement(self.fleet)
        self._mailbox = Mailbox(self._link, letters, gateway, self._deliver, self._redis_lost_data)
        self.bypass = Bypass(gateway, self.fleet, self._deliver, self._held_by, self._never_arrived)
        self._aborts = Aborts(self._link, self.bypass)
        self._sequences: dict[str, Sequence] = {}
        self._shares = Shares(self._sequences.values())
        self._parked: dict[str, Sequence] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._announcing: set[asyncio.Task[None]] = set()
        self.on_redis_lost: Callable[[], None] = lambda: None  # its data, not the way to it

    async def start(self) -> None:
        sender = BypassSender(make_sender(self._link), self.bypass)
        self._publisher = Publisher(sender, self._publish_failed, self._speed_of)
        await self._mailbox.keep()
        self._tasks = [
            asyncio.create_task(self._mailbox.read_for_ever()),
            asyncio.create_task(self._mailbox.keep_for_ever()),
            asyncio.create_task(self.fleet.run()),
            asyncio.create_task(self.bypass.run()),
            asyncio.create_task(self._supervise()),
            asyncio.create_task(live.publish_for_ever(self, self._link)),
        ]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._publisher.close()
        await self._mailbox.remove()
        for link in self._links:
            await link.aclose()

    @property
    def recent_batches(self) -> list[BatchRecord]:
        return list(self._publisher.recent)

    @property
    def recent_decisions(self) -> list[Decision]:
        return list(self.placement.recent)

    @property
    def in_flight(self) -> int:
        return len(self._sequences)

    def has_replica(self, deployments: Iterable[int]) -> bool:
        for deployment in deployments:
            for replica in self.fleet.listed(deployment):
                if replica.state == "ready":
                    return True
        return False

    def excess_wait_s(
        self, candidates: Collection[Served], tier: str, organization: int, weight: int
    ) -> float:
        """By how much a request would wait longer than its tier may; 0 if it would not, or if
        its organization has less than its share under way: replicas' queues are fair."""
        excess_s = self.placement.excess_s(candidates, tier)
        if excess_s and self._shares.is_below(
            (served.deployment for served in candidates), organization, weight
        ):
            return 0.0
        return excess_s

    def submit(self, job: Job) -> Sequence:
        """Start a sequence. Raises NoReplica when none of its deployments has one, and
        RequestQuarantined when engines died of the same request."""
        self._quarantine.check(job)
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
        found = self.placement.place(sequence)
        if found is None:
            return False
        served, replica = found
        sequence.served = served
        sequence.replica, sequence.incarnation = replica.name, replica.incarnation
        sequence.handed_over_at = time.monotonic()
        sequence.begun_at_token = len(sequence.output_ids)
        replica.in_flight += 1
        self._publisher.submit(replica.name, self._submission(sequence), served.batching_profile)
        return True

    def _submission(self, sequence: Sequence) -> Submission:
        job, done = sequence.job, len(sequence.output_ids)
        sampling = job.sampling
        if sampling is not None and done:
            sampling = msgspec.structs.replace(
                sampling,
                max_tokens=sampling.max_tokens - done,
                min_tokens=max(0, sampling.min_tokens - done),
                prompt_logprobs=None,  # they came with the first output
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
            tier=job.tier,
            pair_at=job.pair_at,
        )

    def _leave_replica(self, sequence: Sequence) -> None:
        replica = self.fleet.replicas.get(sequence.replica)
        if replica is not None and replica.incarnation == sequence.incarnation:
            replica.in_flight -= 1

    # --- Continuing elsewhere ----------------------------------------------------------

    def _continue_elsewhere(self, sequence: Sequence, reason: str) -> None:
        """The replica will not finish this sequence: go on somewhere else, or end it."""
        self._leave_replica(sequence)
        self._blame(sequence, reason)
        # Should it still run there, it must not: its tokens would be made twice.
        self._abort(sequence)
        sequence.attempt += 1  # whatever the old replica still sends is void from here
        if reason in REFUSALS:
            sequence.excluded.add(sequence.incarnation)
        if self._ends_here(sequence, reason):
            return
        metrics.CONTINUED.labels(reason).inc()
        log.warning(
            "dispatch.continued",
            extra={
                "request_id": sequence.job.request_id,
                "reason": reason,
                "replica": sequence.replica,
            },
        )
        if self._place(sequence):
            return
        if reason in HOPELESS:
            kind, message = HOPELESS[reason]
            error = kind(message)
            error.retry_after_s = sequence.retry_after_s or error.retry_after_s
            self._fail(sequence, error)
            return
        sequence.replica = sequence.incarnation = ""
        sequence.parked_since = time.monotonic()
        self._parked[sequence.job.request_id] = sequence

    def _blame(self, sequence: Sequence, reason: str) -> None:
        replica = self.fleet.replicas.get(sequence.replica)
        if replica is not None and reason != "replica_stopping":
            replica.failures += 1
            if reason in FAULTS:
                replica.circuit.fail(time.monotonic())

    def _ends_here(self, sequence: Sequence, reason: str) -> bool:
        """End a sequence that may not, cannot, or need not go on; whether it was one."""
        job, sampling = sequence.job, sequence.job.sampling
        if reason == "engine_died" and quarantine.is_suspect(sequence):
            self._put_in_quarantine(job)
            self._fail(sequence, RequestQuarantined(quarantine.MESSAGE))
            return True
        can_go_on = not sequence.output_ids or (sampling is not None and sampling.can_continue)
        if not can_go_on or sequence.attempt > MOST_ATTEMPTS:
            error, message = GIVEN_UP.get(reason, STOPPED)
            self._fail(sequence, error(message))
            return True
        if sampling is not None and len(sequence.output_ids) >= sampling.max_tokens:
            # Only the last delta was lost, and it could have held nothing but the end.
            last = Delta(job.request_id, sequence.attempt, 0, [], "", finish_reason="length")
            self._finish(sequence, last)
            return True
        return False

    def _put_in_quarantine(self, job: Job) -> None:
        mark = quarantine.fingerprint(job)
        self._quarantine.add(mark)
        log.error("dispatch.quarantined", extra={"request_id": job.request_id})
        metrics.QUARANTINED.inc()
        task = asyncio.get_running_loop().create_task(self._announce(mark))
        self._announcing.add(task)
        task.add_done_callback(self._announcing.discard)

    async def _announce(self, mark: str) -> None:
        kept = quarantine.STREAM_KEPT
        try:
            await self._link.call(
                "XADD", QUARANTINE_STREAM, "MAXLEN", "~", kept, "*", "fingerprint", mark
            )
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("quarantine.unannounced", extra={"error": repr(error)})

    def _fail(self, sequence: Sequence, error: InferenceError) -> None:
        self._sequences.pop(sequence.job.request_id, None)
        self._parked.pop(sequence.job.request_id, None)
        sequence.fail(error)

    def _finish(self, sequence: Sequence, delta: Delta) -> None:
        self._sequences.pop(sequence.job.request_id, None)
        sequence.accept(delta)

    def _replica_changed(self, replica: ReplicaView, before: str) -> None:
        if replica.state == "gone":
            # A worker that stops drains first; one that says goodbye while ready lost its engine.
            died = before == "ready"
            for sequence in list(self._sequences.values()):
                if sequence.incarnation == replica.incarnation:
                    self._continue_elsewhere(sequence, "engine_died" if died else "replica_gone")
            self._publisher.forget(replica.name)
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
            self._check_empty()

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
                self._blame(sequence, "timeout")
                self._abort(sequence)
                self._fail(sequence, RequestTimedOut("The request took too long."))
            elif sequence.parked_since and now - sequence.parked_since > MOST_PARKED_S:
                self._fail(sequence, NoReplica("No replica of this model came back in time."))

    def _check_empty(self) -> None:
        """A replica may never have heard of what it was sent: Redis lost its queue, or its
        consumer is deaf while its heart beats. It says so itself, by holding nothing."""
        horizon = time.monotonic() - EMPTY_AFTER_S
        empty = set()
        for replica in self.fleet.replicas.values():
            if replica.in_flight and replica.empty_since and replica.empty_since < horizon:
                empty.add(replica.incarnation)
        if empty:
            for sequence in list(self._sequences.values()):
                if sequence.incarnation in empty and sequence.handed_over_at < horizon:
                    self._continue_elsewhere(sequence, "never_taken")

    def _redis_lost_data(self) -> None:
        """Queues and mailbox are gone: what does not move now never will."""
        self.on_redis_lost()
        stood = {
            request_id: (sequence.attempt, len(sequence.output_ids))
            for request_id, sequence in self._sequences.items()
            if sequence.parked_since is None
        }
        asyncio.get_running_loop().call_later(LOST_AFTER_S, self._continue_unmoved, stood)

    def _held_by(self, replica: str) -> list[str]:
        """Attempts that are on a replica, or on their way to it."""
        return [
            wire.engine_id(request_id, sequence.attempt)
            for request_id, sequence in self._sequences.items()
            if sequence.replica == replica
        ]

    def _never_arrived(self, engine_ids: list[str]) -> None:
        for engine_id in engine_ids:
            request_id, _, attempt = engine_id.rpartition("#")
            sequence = self._sequences.get(request_id)
            if sequence is not None and str(sequence.attempt) == attempt:
                self._continue_elsewhere(sequence, "lost_by_redis")

    def _continue_unmoved(self, stood: dict[str, tuple[int, int]]) -> None:
        for request_id, before in stood.items():
            sequence = self._sequences.get(request_id)
            if sequence is None or (sequence.attempt, len(sequence.output_ids)) != before:
                continue
            sampling = sequence.job.sampling
            if not sequence.output_ids or (sampling is not None and sampling.can_continue):
                self._continue_elsewhere(sequence, "lost_by_redis")

    # --- Output ---------------------------------------------------------------------------

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
            sequence.engine_us += delta.engine_us
            sequence.retry_after_s = delta.retry_after_ms / 1000 or None
            self._refused(sequence, delta.error, delta.detail)
        elif delta.finish_reason == "abort":
            sequence.engine_us += delta.engine_us
            self._continue_elsewhere(sequence, "aborted")
        elif delta.finish_reason:
            self._leave_replica(sequence)
            self._praise(sequence)
            self._finish(sequence, delta)
        else:
            sequence.accept(delta)

    def _refused(self, sequence: Sequence, reason: str, detail: str) -> None:
        if reason in REFUSALS:
            self._continue_elsewhere(sequence, reason)
            return
        self._leave_replica(sequence)
        if reason == "invalid_parameters":
            sampling = sequence.job.sampling
            field = sampling.structured_field or None if sampling is not None else None
            message = detail or "The engine refuses these parameters."
            self._fail(sequence, InvalidRequest(message, param=field))
        else:
            self._fail(sequence, RequestFailed("The engine could not finish this request."))

    def _praise(self, sequence: Sequence) -> None:
        replica = self.fleet.replicas.get(sequence.replica)
        if replica is not None:
            replica.circuit.succeed()
        self.placement.learn(sequence)

    def _abort(self, sequence: Sequence) -> None:
        if not sequence.replica:
            return
        if not self._publisher.withdraw(sequence.replica, sequence.job.request_id):
            engine_id = wire.engine_id(sequence.job.request_id, sequence.attempt)
            self._aborts.send(sequence.replica, engine_id)
