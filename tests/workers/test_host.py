"""The worker's host with the simulated engine: capacity, refusals, aborts, the drain."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
from django.conf import settings as django_settings

from inference import wire
from inference.engine_protocol import EngineSpec
from inference.wire import Delta, Heartbeat, Submission, WorkerUsage
from tests.harness.platform import wait_for
from tests.harness.services import CHECKOUT
from tests.workers.factory import make_submission
from workers.engine import control, intake
from workers.engine import host as hosts
from workers.engine import outbox as outboxes
from workers.engine.host import EngineHost, ReplicaIdentity
from workers.engines.simulated import SimulatedEngine

CAPACITY = 4


class Worker:
    """A running host, and what it says to the world."""

    def __init__(self, host: EngineHost, valkey: redis.Redis, restarts: list[str]):
        self.host = host
        self.restarts = restarts
        self._valkey = valkey
        valkey.xadd(wire.mailbox_of("gateway"), {b"hello": b"1"})

    def take(self, *submissions: Submission) -> list[Submission]:
        """Give the host work as the Celery task does, addressed to its present life."""
        addressed = [
            Submission(**{**_fields(each), "incarnation": self.host.incarnation})
            for each in submissions
        ]
        self.host.accept(addressed)
        return addressed

    def deltas(self, gateway: str = "gateway") -> list[Delta]:
        return [
            delta
            for _, fields in self._valkey.xrange(wire.mailbox_of(gateway))
            if b"d" in fields
            for delta in wire.decode_deltas(fields[b"d"])
        ]

    def ends(self) -> dict[str, str]:
        """How each sequence ended that has ended."""
        return {
            delta.request_id: delta.error or delta.finish_reason
            for delta in self.deltas()
            if delta.finish_reason
        }

    def ids(self, submission: Submission) -> list[int]:
        return [
            token
            for delta in self.deltas()
            if delta.request_id == submission.request_id
            for token in delta.token_ids
        ]

    def usages(self) -> list[WorkerUsage]:
        return [
            usage
            for _, fields in self._valkey.xrange(wire.WORKER_USAGE)
            for usage in wire.decode_worker_usage(fields[b"u"])
        ]

    def beats(self) -> list[Heartbeat]:
        return [
            wire.decode_heartbeat(fields[b"h"])
            for _, fields in self._valkey.xrange(wire.HEARTBEATS)
        ]

    def order(self, verb: str, incarnation: str = "") -> None:
        content = wire.encode(wire.Order(verb, incarnation or self.host.incarnation))
        self._valkey.xadd(wire.control_of(self.host.identity.name), {b"o": content})

    def abort(self, *engine_ids: str) -> None:
        content = wire.encode(wire.Abort(list(engine_ids)))
        self._valkey.xadd(wire.control_of(self.host.identity.name), {b"a": content})


def _fields(submission: Submission) -> dict[str, object]:
    return {name: getattr(submission, name) for name in Submission.__struct_fields__}


@contextmanager
def running(valkey: redis.Redis) -> Iterator[Worker]:
    spec = EngineSpec("tiny", "chat", "", "auto", 128, CAPACITY)
    identity = ReplicaIdentity("chat-1", 1, 1)
    restarts: list[str] = []
    host = EngineHost(
        SimulatedEngine(),
        spec,
        identity,
        django_settings.REDIS_URL,
        lambda: restarts.append(host.incarnation),
    )
    host.start(30)
    try:
        yield Worker(host, valkey, restarts)
    finally:
        if host.state != "gone":
            host.stop()


@pytest.fixture
def worker(valkey: redis.Redis) -> Iterator[Worker]:
    """An engine that answers at once."""
    with running(valkey) as worker:
        yield worker


@pytest.fixture
def slow_worker(valkey: redis.Redis, settings: object, tmp_path: Path) -> Iterator[Worker]:
    """An engine that makes a token every 20 ms."""
    profile = tmp_path / "profile.json"
    profile.write_text(json.dumps({"decode_ms": 20.0}))
    settings.SIMULATED_PROFILE = str(profile)  # type: ignore[attr-defined]
    with running(valkey) as worker:
        yield worker


def test_every_sequence_is_answered_to_its_last_token(worker: Worker) -> None:
    taken = worker.take(*(make_submission(max_tokens=7) for _ in range(50)))
    wait_for(lambda: len(worker.ends()) == 50, 15)

    assert set(worker.ends().values()) == {"length"}
    assert all(len(worker.ids(submission)) == 7 for submission in taken)
    noted = {usage.request_id: usage for usage in wait_for(worker.usages, 10)}
    assert {usage.completion_tokens for usage in noted.values()} == {7}
    assert {usage.prompt_tokens for usage in noted.values()} == {10}


def test_the_engine_is_given_no_more_than_it_can_run(slow_worker: Worker) -> None:
    slow_worker.take(*(make_submission(max_tokens=15) for _ in range(3 * CAPACITY)))
    busy = wait_for(lambda: [beat for beat in slow_worker.beats() if beat.running], 10)
    assert busy[0].running == CAPACITY and busy[0].waiting > 0
    wait_for(lambda: len(slow_worker.ends()) == 3 * CAPACITY, 20)

    assert max(beat.running for beat in slow_worker.beats()) == CAPACITY


def test_a_continued_sequence_counts_on_from_its_offset(slow_worker: Worker) -> None:
    (taken,) = slow_worker.take(
        make_submission(prompt_tokens=10 + 4, offset=4, max_tokens=3, attempt=2)
    )
    wait_for(slow_worker.ends, 10)

    assert [delta.offset for delta in slow_worker.deltas()] == [4, 5, 6]
    assert {delta.attempt for delta in slow_worker.deltas()} == {2}
    (usage,) = wait_for(slow_worker.usages, 10)
    assert usage.request_id == taken.request_id
    assert (usage.prompt_tokens, usage.completion_tokens) == (10, 7)


def test_work_for_a_former_life_is_refused(worker: Worker) -> None:
    stale = make_submission(incarnation="a former life")
    worker.host.accept([stale])

    assert wait_for(worker.ends, 10) == {stale.request_id: "replica_restarted"}
    assert worker.ids(stale) == []


def test_a_queue_that_is_full_refuses_at_once(
    slow_worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow_worker.take(*(make_submission(max_tokens=200) for _ in range(CAPACITY)))
    wait_for(lambda: len(slow_worker.host._intake.running) == CAPACITY, 10)
    monkeypatch.setattr(intake, "MOST_WAITING", 6)
    taken = slow_worker.take(*(make_submission(max_tokens=1) for _ in range(5)))

    assert wait_for(slow_worker.ends, 10) == {
        taken[3].request_id: "overloaded",
        taken[4].request_id: "overloaded",
    }
    slow_worker.abort(*slow_worker.host._intake.running)


def test_an_abort_ends_what_runs_and_what_waits_and_nothing_else(slow_worker: Worker) -> None:
    taken = slow_worker.take(*(make_submission(max_tokens=60) for _ in range(CAPACITY + 2)))
    wait_for(lambda: len(slow_worker.host._intake.running) == CAPACITY, 10)
    slow_worker.abort(taken[0].engine_id, taken[-1].engine_id, "req-unknown#1")
    ends = wait_for(lambda: len(slow_worker.ends()) >= 2 and slow_worker.ends(), 10)

    assert ends[taken[0].request_id] == "abort"
    assert ends[taken[-1].request_id] == "aborted"
    wait_for(lambda: len(slow_worker.ends()) == len(taken), 20)
    assert list(slow_worker.ends().values()).count("length") == CAPACITY
    assert len(slow_worker.ids(taken[0])) < 60


def test_an_abort_that_overtakes_its_work_still_stops_it(slow_worker: Worker) -> None:
    """Work goes through the broker, aborts do not: a client that leaves at once is first."""
    submission = make_submission(max_tokens=200)
    slow_worker.abort(submission.engine_id)
    wait_for(lambda: submission.engine_id in slow_worker.host._early_aborts, 10)
    slow_worker.take(submission)

    assert wait_for(slow_worker.ends, 10) == {submission.request_id: "aborted"}
    assert slow_worker.ids(submission) == []
    assert len(slow_worker.host._early_aborts) == 0


def test_aborts_that_never_meet_their_work_are_forgotten(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "EARLY_ABORTS_KEPT", 10)
    for number in range(50):
        worker.abort(f"req-{number}#1")
    wait_for(lambda: "req-49#1" in worker.host._early_aborts, 10)

    assert len(worker.host._early_aborts) == 10


def test_nonsense_on_the_control_stream_stops_no_abort(
    slow_worker: Worker, valkey: redis.Redis
) -> None:
    (taken,) = slow_worker.take(make_submission(max_tokens=500))
    control = wire.control_of("chat-1")
    valkey.xadd(control, {b"a": b"\xc1"})
    valkey.xadd(control, {b"other": b""})
    slow_worker.abort(taken.engine_id)

    assert wait_for(slow_worker.ends, 10) == {taken.request_id: "abort"}


def test_a_dead_gateways_work_is_dropped_from_engine_and_queue(
    slow_worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outboxes, "GATEWAY_GRACE_S", 0.3)
    orphans = [make_submission(max_tokens=400, gateway="dead") for _ in range(CAPACITY + 3)]
    slow_worker.take(*orphans)
    (mine,) = slow_worker.take(make_submission(max_tokens=2))
    wait_for(lambda: slow_worker.ends() == {mine.request_id: "length"}, 20)

    assert not slow_worker.host._intake.running and not slow_worker.host._intake.waiting
    noted = {usage.request_id for usage in wait_for(slow_worker.usages, 10)}
    assert orphans[0].request_id in noted  # for whoever settles the dead gateway's holds


def test_a_drain_finishes_what_was_taken_and_says_goodbye(slow_worker: Worker) -> None:
    taken = slow_worker.take(*(make_submission(max_tokens=5) for _ in range(2 * CAPACITY)))
    slow_worker.host.stop()

    assert slow_worker.ends() == {each.request_id: "length" for each in taken}
    assert len(slow_worker.usages()) == len(taken)
    states = [beat.state for beat in slow_worker.beats()]
    assert states[-1] == "gone" and "draining" in states


def test_what_a_drain_cannot_finish_is_handed_back_where_it_stands(
    slow_worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the offset where its output stands, or its reader takes it for a repetition."""
    monkeypatch.setattr(hosts, "DRAIN_TIMEOUT_S", 0.3)
    taken = slow_worker.take(*(make_submission(max_tokens=1_000) for _ in range(CAPACITY + 1)))
    wait_for(lambda: len(slow_worker.ids(taken[0])) > 2, 10)
    slow_worker.host.stop()

    assert set(slow_worker.ends().values()) == {"replica_stopping"}
    assert len(slow_worker.ends()) == len(taken)
    for submission in taken:
        last = [each for each in slow_worker.deltas() if each.request_id == submission.request_id]
        assert last[-1].offset == len(slow_worker.ids(submission))


def test_a_dead_engine_hands_its_work_back_and_ends_the_process(valkey: redis.Redis) -> None:
    deltas, beats = dead_worker(valkey, "tests.workers.dying_engine")

    assert beats[-1].state == "gone"
    assert [(each.finish_reason, each.error) for each in deltas] == [("error", "engine_died")] * 2


def dead_worker(valkey: redis.Redis, module: str) -> tuple[list[Delta], list[Heartbeat]]:
    """What a worker said whose engine dies; its process must have ended with 70."""
    valkey.xadd(wire.mailbox_of("gateway"), {b"hello": b"1"})
    process = subprocess.run(
        [sys.executable, "-m", module],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert process.returncode == 70, process.stderr
    beats = [wire.decode_heartbeat(fields[b"h"]) for _, fields in valkey.xrange(wire.HEARTBEATS)]
    deltas = [
        delta
        for _, fields in valkey.xrange(wire.mailbox_of("gateway"))
        if b"d" in fields
        for delta in wire.decode_deltas(fields[b"d"])
    ]
    return deltas, beats


def test_a_hung_engine_is_unproven_then_dead_and_only_what_it_had_says_so(
    valkey: redis.Redis,
) -> None:
    deltas, beats = dead_worker(valkey, "tests.workers.hanging_engine")

    assert beats[-1].state == "gone"
    assert next(beat.is_proven for beat in beats if beat.state == "ready")
    assert not beats[-2].is_proven
    ends = sorted(each.error for each in deltas if each.finish_reason)
    assert ends == ["engine_died"] * 4 + ["replica_stopping"] * 2


def test_engine_seconds_come_as_they_are_spent_and_sum_to_the_steps(
    slow_worker: Worker,
) -> None:
    steps = []
    stepped = slow_worker.host._engine._on_step  # type: ignore[attr-defined]
    slow_worker.host._engine._on_step = lambda step: (  # type: ignore[attr-defined]
        steps.append(step.duration_s),
        stepped(step),
    )
    slow_worker.take(*(make_submission(max_tokens=5 + number) for number in range(CAPACITY + 3)))
    wait_for(lambda: len(slow_worker.ends()) == CAPACITY + 3, 20)
    usages = wait_for(lambda: len(slow_worker.usages()) == CAPACITY + 3 and slow_worker.usages(), 9)

    told, with_last = Counter[str](), Counter[str]()
    for delta in slow_worker.deltas():
        told[delta.request_id] += delta.engine_us
        if delta.finish_reason:
            with_last[delta.request_id] = delta.engine_us
    assert told == {usage.request_id: usage.engine_us for usage in usages}
    assert told.total() / 1e6 == pytest.approx(sum(steps), rel=0.01)
    # Whoever had left before the end would have heard of most of it.
    assert min(told.values()) > 0 and with_last.total() < told.total() / 2


def test_a_replica_that_would_keep_a_client_waiting_says_when_to_come_again(
    slow_worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow_worker.take(*(make_submission(max_tokens=40) for _ in range(CAPACITY)))
    wait_for(lambda: len(slow_worker.ends()) == CAPACITY, 20)  # its speed is known now
    monkeypatch.setitem(intake.MOST_WAIT_S, "standard", 0.5)
    taken = slow_worker.take(*(make_submission(max_tokens=60) for _ in range(30)))
    refused = wait_for(lambda: [each for each in slow_worker.deltas() if each.error], 10)

    assert {each.error for each in refused} == {"overloaded"}
    assert min(each.retry_after_ms for each in refused) > 0
    assert taken[0].request_id not in {each.request_id for each in refused}
    slow_worker.abort(*(each.engine_id for each in taken))


def test_a_heartbeat_tells_how_fast_the_replica_is(slow_worker: Worker) -> None:
    slow_worker.take(*(make_submission(max_tokens=40) for _ in range(CAPACITY)))
    beat = wait_for(lambda: [each for each in slow_worker.beats() if each.decode_ms], 10)[-1]

    assert beat.decode_ms == pytest.approx(20, rel=0.5)
    assert beat.is_proven and beat.kv_tokens == 0


def test_a_heartbeat_tells_the_state_of_the_replica(worker: Worker) -> None:
    beat = wait_for(lambda: [each for each in worker.beats() if each.state == "ready"], 10)[0]

    assert (beat.replica, beat.deployment, beat.version) == ("chat-1", 1, 1)
    assert (beat.engine, beat.capacity) == ("simulated", CAPACITY)
    assert beat.incarnation == worker.host.incarnation
    assert time.time() - beat.started_at < 60


def test_a_replica_told_to_drain_takes_what_still_comes_and_serves_again(
    slow_worker: Worker,
) -> None:
    """Gateways hear of it half a second later at most; until then nothing may be lost."""
    before = slow_worker.take(*(make_submission(max_tokens=30) for _ in range(CAPACITY + 2)))
    slow_worker.order("drain")
    wait_for(lambda: slow_worker.host.state == "draining", 5)
    late = slow_worker.take(make_submission(max_tokens=5))
    wait_for(lambda: len(slow_worker.ends()) == len(before) + len(late), 20)

    assert set(slow_worker.ends().values()) == {"length"}
    assert slow_worker.beats()[-1].state == "draining"
    assert slow_worker.beats()[-1].queue_wait_ms > 0
    slow_worker.order("serve")
    wait_for(lambda: slow_worker.host.state == "ready", 5)
    assert not slow_worker.restarts


def test_an_order_for_another_life_or_of_no_known_kind_changes_nothing(worker: Worker) -> None:
    worker.order("drain", incarnation="its last life")
    worker.order("restart", incarnation="its last life")
    worker.order("serve")
    worker.order("explode")
    worker.order("drain")  # read after the others
    wait_for(lambda: worker.host.state == "draining", 5)

    assert not worker.restarts


def test_told_to_restart_it_has_its_process_end_once_it_serves(worker: Worker) -> None:
    worker.order("restart")
    wait_for(lambda: worker.restarts, 5)

    assert worker.restarts == [worker.host.incarnation]
