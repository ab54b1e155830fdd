"""From the real Redis stream to the real ledger, whatever dies on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from django.conf import settings
from django.db import ProgrammingError, connection
from prometheus_client import REGISTRY
from redis import Redis

from billing import collector
from billing.actions import record_usage
from billing.collector import CONSUMER, GROUP, Collected, collect_usage
from billing.models import LedgerTransaction, RejectedReport, UsageEvent
from billing.selectors import check_ledger, ledger_balance
from billing.usage import FIELD, STREAM, UsageReport, decode_report, encode_report
from tests.billing.factory import Tenant, make_price, make_report, make_tenant

COST = 260


def publish(stream: Redis, reports: list[UsageReport]) -> None:
    with stream.pipeline(transaction=False) as pipe:
        for report in reports:
            pipe.xadd(STREAM, {FIELD: encode_report(report)})
        pipe.execute()


def pending(stream: Redis) -> int:
    answer: Any = stream.xpending(STREAM, GROUP)
    return int(answer["pending"])


def take_as_dead_consumer(stream: Redis) -> list[tuple[bytes, dict[bytes, bytes]]]:
    """What a collector does before it dies: take everything and acknowledge nothing."""
    stream.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
    answer: Any = stream.xreadgroup(GROUP, CONSUMER, {STREAM: ">"})
    return list(answer[0][1])


def test_everything_is_recorded_acknowledged_and_deleted(tenant: Tenant, stream: Redis) -> None:
    make_price()
    publish(stream, [make_report(tenant) for _ in range(1201)])
    assert collect_usage(stream) == Collected(1201, 1201, 0, 0)
    assert pending(stream) == stream.xlen(STREAM) == 0
    assert ledger_balance(tenant.organization) == 1201 * COST
    assert check_ledger() == []


def test_an_empty_stream_is_no_work(db: None, stream: Redis) -> None:
    assert collect_usage(stream) == Collected(0, 0, 0, 0)
    assert collect_usage(stream) == Collected(0, 0, 0, 0)


def test_dying_between_commit_and_acknowledgement_counts_once(
    tenant: Tenant, stream: Redis
) -> None:
    make_price()
    publish(stream, [make_report(tenant) for _ in range(20)])
    entries = take_as_dead_consumer(stream)
    assert record_usage([decode_report(fields[FIELD]) for _, fields in entries]) == 20
    assert collect_usage(stream, claim_after_ms=0) == Collected(20, 0, 0, 0)
    assert pending(stream) == 0
    assert UsageEvent.objects.count() == LedgerTransaction.objects.count() == 20


def test_what_a_dead_collector_took_is_recorded_by_the_next(tenant: Tenant, stream: Redis) -> None:
    publish(stream, [make_report(tenant) for _ in range(1300)])
    assert len(take_as_dead_consumer(stream)) == 1300
    publish(stream, [make_report(tenant) for _ in range(10)])
    # Not yet: it may still be at work.
    assert collect_usage(stream) == Collected(10, 10, 0, 1300)
    assert collect_usage(stream, claim_after_ms=0) == Collected(1300, 1300, 0, 0)
    assert pending(stream) == 0


def test_undecodable_entries_are_set_aside(tenant: Tenant, stream: Redis) -> None:
    good = make_report(tenant)
    too_short = msgspec.msgpack.encode(["req_1", 1])
    wrong_type = msgspec.msgpack.encode(list(msgspec.to_builtins(good).__reversed__()))
    for raw in (b"", b"\xc1 not msgpack", too_short, wrong_type):
        stream.xadd(STREAM, {FIELD: raw})
    stream.xadd(STREAM, {b"another": b"field"})
    publish(stream, [good])
    assert collect_usage(stream) == Collected(6, 1, 5, 0)
    assert RejectedReport.objects.count() == 5
    assert set(RejectedReport.objects.values_list("request_id", flat=True)) == {""}
    assert all(rejected.content for rejected in RejectedReport.objects.all())
    assert pending(stream) == 0


def test_redis_without_its_data_is_no_error(tenant: Tenant, stream: Redis) -> None:
    publish(stream, [make_report(tenant)])
    collect_usage(stream)
    stream.delete(STREAM)
    publish(stream, [make_report(tenant) for _ in range(3)])
    assert collect_usage(stream) == Collected(3, 3, 0, 0)


def test_one_run_does_bounded_work(
    tenant: Tenant, stream: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collector, "BATCH", 500)
    publish(stream, [make_report(tenant) for _ in range(1600)])
    assert collect_usage(stream, max_reports=1000) == Collected(1000, 1000, 0, 600)
    stopping = threading.Event()
    stopping.set()
    assert collect_usage(stream, stopping=stopping) == Collected(500, 500, 0, 100)
    publish(stream, [make_report(tenant) for _ in range(500)])
    assert collect_usage(stream, max_s=0) == Collected(500, 500, 0, 100)
    assert collect_usage(stream) == Collected(100, 100, 0, 0)


@pytest.mark.django_db(transaction=True)
def test_what_postgresql_refused_stays_and_comes_again(stream: Redis) -> None:
    tenant = make_tenant()
    publish(stream, [make_report(tenant) for _ in range(5)])
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE billing_usageevent RENAME TO moved_away")
        try:
            with pytest.raises(ProgrammingError):
                collect_usage(stream)
        finally:
            cursor.execute("ALTER TABLE moved_away RENAME TO billing_usageevent")
    assert (pending(stream), stream.xlen(STREAM)) == (5, 5)
    assert collect_usage(stream, claim_after_ms=0) == Collected(5, 5, 0, 0)
    assert UsageEvent.objects.count() == 5


def python(code: str, **environ: str) -> subprocess.Popen[str]:
    """A process of its own with Django up, on this test's database and Redis."""
    return subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import django; django.setup()\n"
            "from tenants.scope import Login, Scope, set_process_scope\n"
            f"set_process_scope(Scope(login=Login.STAFF))\n{code}",
        ],
        env=os.environ
        | {
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "DATABASE_URL": database_url(),
            "REDIS_URL": settings.REDIS_URL,
        }
        | environ,
        cwd=settings.BASE_DIR,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def database_url() -> str:
    at = connection.settings_dict
    user = quote(at["USER"], safe="")
    password = f":{quote(at['PASSWORD'], safe='')}" if at["PASSWORD"] else ""
    # Through the query, because a host may be a folder with a socket.
    where = f"host={quote(at['HOST'], safe='')}&port={at['PORT'] or 5432}"
    return f"postgresql://{user}{password}@/{at['NAME']}?{where}"


COLLECT = """
from billing import collector
collector.BATCH = 500
print(collector.collect_usage())
"""


def test_with_postgresql_down_nothing_is_taken(tenant: Tenant, stream: Redis) -> None:
    publish(stream, [make_report(tenant) for _ in range(5)])
    process = python(COLLECT, DATABASE_URL="postgresql://nobody@127.0.0.1:9/none")
    output, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "OperationalError" in output or "PoolTimeout" in output
    # No entry is pending, so that the next run need not wait until it may claim them.
    assert collect_usage(stream) == Collected(5, 5, 0, 0)


@pytest.mark.django_db(transaction=True)
def test_a_collector_killed_at_work_loses_and_doubles_nothing(stream: Redis) -> None:
    tenant = make_tenant()
    make_price()
    total = 6000
    publish(stream, [make_report(tenant) for _ in range(total)])
    process = python(COLLECT)
    deadline = time.monotonic() + 60
    while not UsageEvent.objects.exists() and time.monotonic() < deadline:
        assert process.poll() is None, process.stdout and process.stdout.read()
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=10)
    done = UsageEvent.objects.count()
    assert 0 < done < total, "the kill did not come in the middle"
    collect_usage(stream, claim_after_ms=0)
    assert UsageEvent.objects.count() == LedgerTransaction.objects.count() == total
    assert ledger_balance(tenant.organization) == total * COST
    assert (pending(stream), stream.xlen(STREAM)) == (0, 0)
    assert check_ledger() == []


@pytest.mark.django_db(transaction=True)
def test_overlapping_runs_are_harmless(stream: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector, "BATCH", 500)
    tenant = make_tenant()
    make_price()
    publish(stream, [make_report(tenant) for _ in range(3000)])
    start = threading.Barrier(3)
    done: list[Collected] = []

    def run() -> None:
        try:
            start.wait(timeout=10)
            # Claims what the others are recording, as after a long pause of theirs.
            done.append(collect_usage(stream, claim_after_ms=0))
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(done) == 3
    assert sum(run.recorded for run in done) == 3000 == UsageEvent.objects.count()
    assert ledger_balance(tenant.organization) == 3000 * COST
    assert (pending(stream), stream.xlen(STREAM)) == (0, 0)


def test_metrics_tell_what_happened(tenant: Tenant, stream: Redis) -> None:
    def sample(name: str) -> float:
        return REGISTRY.get_sample_value(name) or 0.0

    names = [f"sluice_usage_{kind}_total" for kind in ("recorded", "duplicate", "rejected")]
    before = [sample(name) for name in names]
    report = make_report(tenant)
    publish(stream, [report, report, make_report(tenant, prompt_tokens=-1)])
    stream.xadd(STREAM, {FIELD: b"?"})
    collect_usage(stream)
    assert [sample(name) - was for name, was in zip(names, before, strict=True)] == [1, 1, 2]
    assert sample("sluice_usage_stream_length") == 0
    publish(stream, [make_report(tenant)] * 3)
    stream.xadd(STREAM, {b"late": b"1"}, id="*")
    collector._measure(stream)
    assert sample("sluice_usage_stream_length") == 4
    assert 0 <= sample("sluice_usage_oldest_report_seconds") < 60
