"""What becomes of holds that nobody settles: billed by the worker's word, or for nothing."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

import pytest
import redis
from django.conf import settings as django_settings

from billing.models import Price
from billing.usage import FIELD, STREAM, UsageReport, decode_report
from inference import holds, wire
from inference.holds import HoldNote, encode_note, reconcile_holds
from inference.stream_log import Meta as LogMeta
from inference.stream_log import StreamLogs
from inference.wire import WorkerUsage
from tenants.admission import Admission
from tenants.principal import Limits
from tenants.redis_link import RedisLink
from tests.tenants.factory import Ledger, make_principal, state_of

LIMITS = Limits(concurrent_requests=50, monthly_tokens=100_000, monthly_budget_micros=100_000)
CREDIT = 1_000_000


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch, valkey: redis.Redis, db: None) -> None:
    """Every hold is old enough to be looked at, and a missing gateway long enough missing."""
    Price.objects.create(
        model="tiny",
        effective_from=datetime(2025, 1, 1, tzinfo=UTC),
        input_micros_per_million=1_000_000,
        cached_input_micros_per_million=500_000,
        output_micros_per_million=2_000_000,
    )
    monkeypatch.setattr(holds, "ABANDONED_AFTER_S", -1.0)
    monkeypatch.setattr(holds, "GONE_GRACE_S", 0.0)


def admit(
    request_id: str, gateway: str = "dead", note: bytes | None = None, expiry_s: float = 900
) -> None:
    content = HoldNote(gateway, 5, 3, 7, "tiny", "chat.completions", time.time() - 60)

    async def run() -> None:
        link = RedisLink(django_settings.REDIS_URL, timeout_s=5, name="test")
        await Admission(link, expiry_s, Ledger()).admit(
            make_principal(LIMITS, credit=CREDIT),
            request_id,
            model="tiny",
            expected_tokens=10,
            most_tokens=1_000,
            most_cost_micros=5_000,
            note=encode_note(content) if note is None else note,
        )
        await link.aclose()

    asyncio.run(run())


def worker_notes(valkey: redis.Redis, *usages: WorkerUsage) -> None:
    valkey.xadd(wire.WORKER_USAGE, {b"u": wire.encode(list(usages))})


def usage(
    sequence: str,
    *,
    prompt: int = 30,
    cached: int = 0,
    completion: int = 12,
    finish: str = "abort",
    finished_at: float | None = None,
) -> WorkerUsage:
    return WorkerUsage(
        sequence, prompt, cached, completion, finish, "chat-1", finished_at or time.time(), 1_500
    )


def reports(valkey: redis.Redis) -> dict[str, UsageReport]:
    found = [decode_report(fields[FIELD]) for _, fields in valkey.xrange(STREAM)]
    assert len({report.request_id for report in found}) == len(found), "billed twice"
    return {report.request_id: report for report in found}


def monthly(valkey: redis.Redis) -> tuple[float, float]:
    """Tokens and micro-dollars of the month, once nothing is held any more."""
    state = state_of(valkey)
    assert state.tokens_held == state.micros_held == state.life_held == state.in_flight == 0
    assert state.life == state.micros
    return state.tokens, state.micros


def tokens(report: UsageReport) -> tuple[int, int, int]:
    return report.prompt_tokens, report.cached_tokens, report.completion_tokens


def test_a_dead_gateways_request_is_billed_by_the_workers_word(valkey: redis.Redis) -> None:
    admit("req-1")
    worker_notes(valkey, usage("req-1/0.0", prompt=30, cached=16, completion=12))

    assert reconcile_holds() == 1
    report = reports(valkey)["req-1"]
    assert tokens(report) == (30, 16, 12)
    assert (report.source, report.status, report.replica) == ("worker", "cancelled", "chat-1")
    assert (report.organization, report.project, report.api_key) == (5, 3, 7)
    assert (report.model, report.endpoint) == ("tiny", "chat.completions")
    assert report.engine_us == 1_500
    assert 55_000 < report.duration_ms < 120_000
    # 14 tokens at $1, 16 cached at $0.50 and 12 of output at $2, a million.
    assert monthly(valkey) == (42, 14 + 8 + 24)
    assert valkey.zcard("holds") == 0


def test_a_request_that_no_worker_saw_is_billed_nothing(valkey: redis.Redis) -> None:
    admit("req-1")
    worker_notes(valkey, usage("req-2/0.0"), usage("req-11/0.0"))

    assert reconcile_holds() == 1
    report = reports(valkey)["req-1"]
    assert tokens(report) == (0, 0, 0)
    assert report.status == "failed"
    assert monthly(valkey) == (0, 0)


def test_reconciling_again_bills_nothing_again(valkey: redis.Redis) -> None:
    admit("req-1")
    worker_notes(valkey, usage("req-1/0.0"))

    assert reconcile_holds() == 1
    assert reconcile_holds() == 0
    assert len(reports(valkey)) == 1


def test_a_live_gateways_request_is_left_alone(valkey: redis.Redis) -> None:
    valkey.xadd(wire.mailbox_of("alive"), {b"hello": b"1"})
    admit("req-1", "alive")
    admit("req-2", "dead")

    assert reconcile_holds() == 1
    assert set(reports(valkey)) == {"req-2"}
    assert valkey.exists("held:req-1")


def test_even_a_live_gateways_hold_ends_when_it_expires(valkey: redis.Redis) -> None:
    valkey.xadd(wire.mailbox_of("alive"), {b"hello": b"1"})
    admit("req-1", "alive", expiry_s=0.01)
    time.sleep(0.05)

    assert reconcile_holds() == 1
    assert set(reports(valkey)) == {"req-1"}


def test_a_young_hold_is_not_looked_at(
    valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holds, "ABANDONED_AFTER_S", 45.0)
    admit("req-1")

    assert reconcile_holds() == 0
    assert reports(valkey) == {}


def test_a_gateway_must_be_missing_for_a_while_for_its_workers_to_notice(
    valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ran for minutes is old at once; billed at once, it would be billed as nothing."""
    monkeypatch.setattr(holds, "GONE_GRACE_S", 0.5)
    admit("req-1")
    assert reconcile_holds() == 0  # first seen missing
    worker_notes(valkey, usage("req-1/0.0", completion=12))  # then its worker saw it too
    assert reconcile_holds() == 0
    time.sleep(0.6)

    assert reconcile_holds() == 1
    assert reports(valkey)["req-1"].completion_tokens == 12


def test_several_answers_to_one_prompt_count_it_once(valkey: redis.Redis) -> None:
    admit("req-1")
    worker_notes(
        valkey,
        usage("req-1/0.0", prompt=30, cached=0, completion=5),
        usage("req-1/0.1", prompt=30, cached=16, completion=7),
    )

    reconcile_holds()
    assert tokens(reports(valkey)["req-1"]) == (30, 16, 12)


def test_several_prompts_count_each(valkey: redis.Redis) -> None:
    admit("req-1")
    worker_notes(
        valkey,
        usage("req-1/0.0", prompt=30, cached=16, completion=5),
        usage("req-1/1.0", prompt=40, cached=32, completion=6),
        usage("req-1/10.0", prompt=50, cached=0, completion=7),
    )

    reconcile_holds()
    assert tokens(reports(valkey)["req-1"]) == (120, 48, 18)


def test_of_two_attempts_the_one_that_got_further_counts(valkey: redis.Redis) -> None:
    """The second went on from the first: its count holds both."""
    admit("req-1")
    worker_notes(valkey, usage("req-1/0.0", completion=20))
    worker_notes(valkey, usage("req-1/0.0", completion=8))

    reconcile_holds()
    assert reports(valkey)["req-1"].completion_tokens == 20


@pytest.mark.parametrize(
    ("finish", "completion", "expected"),
    [
        ("error", 0, (0, 0, 0)),  # an error bills nothing,
        ("error", 9, (0, 0, 0)),
        ("abort", 0, (0, 0, 0)),  # nor what was stopped before its first token,
        ("stop", 0, (30, 0, 0)),  # but an embedding has no output and is not free
        ("length", 9, (30, 0, 9)),
    ],
)
def test_what_bills_nothing_at_the_gateway_bills_nothing_here(
    valkey: redis.Redis, finish: str, completion: int, expected: tuple[int, int, int]
) -> None:
    admit("req-1")
    worker_notes(valkey, usage("req-1/0.0", finish=finish, completion=completion))

    reconcile_holds()
    assert tokens(reports(valkey)["req-1"]) == expected


def test_a_worker_whose_clock_is_behind_makes_no_negative_duration(valkey: redis.Redis) -> None:
    """The ledger refuses such a report, and the request would not be billed at all."""
    admit("req-1")
    worker_notes(valkey, usage("req-1/0.0", finished_at=time.time() - 3_600))

    reconcile_holds()
    assert reports(valkey)["req-1"].duration_ms == 0


def test_one_unreadable_hold_or_note_stops_none_of_the_others(valkey: redis.Redis) -> None:
    admit("req-bad", note=b"\xc1")
    admit("req-1")
    valkey.xadd(wire.WORKER_USAGE, {b"u": b"\xc1"})
    valkey.xadd(wire.WORKER_USAGE, {b"other": b""})
    worker_notes(valkey, usage("req-1/0.0"))

    assert reconcile_holds() == 1
    assert reports(valkey)["req-1"].completion_tokens == 12
    assert valkey.exists("held:req-bad")  # until it expires


def test_an_unreadable_hold_frees_its_limits_when_it_expires(valkey: redis.Redis) -> None:
    admit("req-bad", note=b"\xc1", expiry_s=0.01)
    time.sleep(0.05)

    assert reconcile_holds() == 1
    assert monthly(valkey) == (0, 0)
    assert reports(valkey) == {}
    assert not valkey.exists("held:req-bad")


@pytest.mark.parametrize("is_committed", [False, True])
def test_an_answer_with_a_key_is_billed_if_it_was_committed(
    valkey: redis.Redis, is_committed: bool
) -> None:
    """Its gateway died: whoever asks again with the key pays, or has paid; never both."""

    async def run() -> str:
        link = RedisLink(django_settings.REDIS_URL, timeout_s=5, name="test")
        writer = await StreamLogs(link).begin("a", LogMeta(5, 3, 7, "/v1/chat/completions"))
        assert writer is not None
        if is_committed:
            await writer.commit()
        note = HoldNote(
            "dead", 5, 3, 7, "tiny", "chat.completions", time.time() - 60, "standard", "a"
        )
        await asyncio.to_thread(admit, "a", note=encode_note(note))
        worker_notes(valkey, usage("a/0.0"))
        assert await asyncio.to_thread(reconcile_holds) == 1
        state = await writer.commit()
        await link.aclose()
        return state

    state = asyncio.run(run())
    report = reports(valkey)["a"]
    assert report.completion_tokens == (12 if is_committed else 0)
    assert state == ("open" if is_committed else "lost"), "who was not billed cannot commit now"


@pytest.mark.parametrize("tier", ["standard", "batch"])
def test_what_is_billed_with_its_result_is_let_go_of_without_a_bill(
    valkey: redis.Redis, tier: str
) -> None:
    """Its process died before it kept the result: somebody makes it anew, and bills that."""
    note = HoldNote(
        "dead", 5, 3, 7, "tiny", "responses", time.time() - 60, tier,
        is_billed_with_result=tier == "standard",
    )  # fmt: skip
    admit("a", note=encode_note(note))
    worker_notes(valkey, usage("a/0.0"))
    assert reconcile_holds() == 1
    assert not reports(valkey) and not valkey.exists("held:a")
