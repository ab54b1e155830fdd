"""Ending requests for certain: queued while Redis is away, saved when the process ends."""

from __future__ import annotations

import asyncio
import errno
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from unittest import mock

import pytest
import redis
from django.conf import settings as django_settings

from billing.models import Price
from billing.pricebook import Pricebook
from billing.usage import FIELD, STREAM, UsageReport, decode_report, encode_report
from inference import settlement as settlements
from inference import settlement_journal
from inference.settlement import Settlement
from inference.settlement_journal import Journal
from tenants.admission import Admission
from tenants.principal import Limits
from tenants.redis_link import RedisLink
from tests.inference.callers import eventually
from tests.tenants.factory import Ledger, make_principal, state_of
from tests.workers.proxy import Proxy, proxied

LIMITS = Limits(concurrent_requests=50, monthly_budget_micros=1_000_000)
PRICES = Pricebook(
    [
        Price(
            model="tiny",
            effective_from=datetime(2025, 1, 1, tzinfo=UTC),
            input_micros_per_million=1_000_000,
            cached_input_micros_per_million=500_000,
            output_micros_per_million=2_000_000,
        )
    ]
)


@pytest.fixture(autouse=True)
def state_dir(tmp_path: Path, settings: object) -> Path:
    settings.STATE_DIR = tmp_path  # type: ignore[attr-defined]
    return tmp_path


@pytest.fixture
async def proxy(valkey: redis.Redis) -> AsyncIterator[Proxy]:
    async with proxied(django_settings.REDIS_URL) as proxy:
        yield proxy


@pytest.fixture
async def admission(proxy: Proxy) -> AsyncIterator[Admission]:
    link = RedisLink(proxy.url, timeout_s=1, name="settlement")
    yield Admission(link, 900, Ledger())
    await link.aclose()


@asynccontextmanager
async def running(admission: Admission, name: str = "gateway") -> AsyncIterator[Settlement]:
    """A settlement as a gateway runs it: its task is cancelled, then it is stopped."""
    settlement = Settlement(admission, name, PRICES)
    task = asyncio.create_task(settlement.run())
    try:
        yield settlement
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await settlement.stop()


def report(number: int) -> UsageReport:
    return UsageReport(
        f"req-{number}", 5, 3, 7, "tiny", "chat.completions", "completed", "gateway",
        10, 0, 5, time.time(), 20, 100,
    )  # fmt: skip


async def admit(admission: Admission, number: int) -> UsageReport:
    await admission.admit(
        make_principal(LIMITS), f"req-{number}", model="tiny",
        expected_tokens=1, most_tokens=1, most_cost_micros=50, note=b"",
    )  # fmt: skip
    return report(number)


def reported(valkey: redis.Redis) -> Counter[str]:
    return Counter(decode_report(each[FIELD]).request_id for _, each in valkey.xrange(STREAM))


def files(state_dir: Path) -> Iterator[Path]:
    """What waits for another gateway: journals are of living ones."""
    folder = (state_dir / "unsettled").glob("*")
    return (path for path in folder if path.suffix != ".journal")


async def test_a_request_is_settled_at_once(admission: Admission, valkey: redis.Redis) -> None:
    async with running(admission) as settlement:
        await settlement.settle(await admit(admission, 1))

        assert reported(valkey) == {"req-1": 1}
        state = state_of(valkey)
        assert state.in_flight == valkey.zcard("holds") == 0
        # 10 tokens at $1 and 5 at $2, a million, of the 50 that were held.
        assert (state.micros, state.micros_held) == (20, 0)


async def test_while_redis_is_away_the_answer_goes_out_and_is_settled_later(
    admission: Admission, proxy: Proxy, valkey: redis.Redis
) -> None:
    async with running(admission) as settlement:
        reports = [await admit(admission, number) for number in range(20)]
        await proxy.cut()
        started = time.monotonic()
        await asyncio.gather(*(settlement.settle(each) for each in reports))
        assert time.monotonic() - started < 10  # patience, not the minutes of an outage
        assert reported(valkey) == {}
        await proxy.mend()
        await eventually(lambda: len(reported(valkey)) == 20, 20)

        assert reported(valkey) == {f"req-{number}": 1 for number in range(20)}
        assert state_of(valkey).in_flight == 0


async def test_a_caller_that_leaves_while_settling_is_settled_all_the_same(
    admission: Admission, valkey: redis.Redis
) -> None:
    async with running(admission) as settlement:
        task = asyncio.create_task(settlement.settle(await admit(admission, 1)))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await eventually(lambda: "req-1" in reported(valkey))

    assert state_of(valkey).in_flight == 0


async def test_what_a_stopping_gateway_cannot_deliver_the_next_one_does(
    admission: Admission, proxy: Proxy, valkey: redis.Redis, state_dir: Path
) -> None:
    async with running(admission, "first") as first:
        reports = [await admit(admission, number) for number in range(5)]
        await proxy.cut()
        for each in reports:
            await first.settle(each)
    (saved,) = files(state_dir)
    assert saved.stat().st_mode & 0o777 == 0o600  # it tells who used what

    await proxy.mend()
    async with running(admission, "second") as second:
        await eventually(lambda: len(reported(valkey)) == 5 and not second._waiting, 20)
    assert reported(valkey) == {f"req-{number}": 1 for number in range(5)}
    assert list(files(state_dir)) == []


async def test_a_gateway_that_can_deliver_leaves_no_file(
    admission: Admission, valkey: redis.Redis, state_dir: Path
) -> None:
    settlement = Settlement(admission, "gateway", PRICES)
    settlement._queue(await admit(admission, 1))
    await settlement.stop()

    assert reported(valkey) == {"req-1": 1}
    assert list(files(state_dir)) == []


async def test_of_two_gateways_that_start_one_takes_the_file(
    admission: Admission, valkey: redis.Redis
) -> None:
    dead = Settlement(admission, "dead", PRICES)
    for number in range(10):
        dead._queue(report(number))
    dead._save()
    async with running(admission, "one") as one, running(admission, "two") as two:
        await eventually(lambda: len(reported(valkey)) == 10)
        # One that is cancelled with a report under way delivers it again, as it may.
        await eventually(lambda: not one._waiting and not two._waiting)

    assert set(reported(valkey).values()) == {1}


@pytest.mark.parametrize("damage", ["cut short", "nonsense in the middle", "empty"])
async def test_a_damaged_file_loses_no_more_than_is_damaged(
    admission: Admission, valkey: redis.Redis, state_dir: Path, damage: str
) -> None:
    dead = Settlement(admission, "dead", PRICES)
    for number in range(3):
        dead._queue(report(number))
    dead._save()
    (path,) = files(state_dir)
    content = path.read_bytes()
    if damage == "cut short":
        path.write_bytes(content[:-5])
    elif damage == "nonsense in the middle":
        size = 4 + int.from_bytes(content[:4], "big")
        path.write_bytes(content[:size] + b"\0\0\0\4\xc1\xc1\xc1\xc1" + content[size:])
    else:
        path.write_bytes(b"")
    expected = {"cut short": 2, "nonsense in the middle": 3, "empty": 0}[damage]
    async with running(admission):
        await eventually(lambda: not list(files(state_dir)))
        await eventually(lambda: len(reported(valkey)) == expected)


async def test_more_than_memory_may_hold_goes_to_the_file_and_none_is_lost(
    admission: Admission,
    proxy: Proxy,
    valkey: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also the one that is under way when the others are written down."""
    monkeypatch.setattr(settlements, "MOST_WAITING", 5)
    async with running(admission, "first") as first:
        await proxy.cut()
        for number in range(12):
            await first.settle(report(number))
            assert len(first._waiting) <= 5
        await proxy.mend()
        await eventually(lambda: len(reported(valkey)) == 12, 20)


async def test_a_report_that_comes_while_another_is_delivered_is_not_taken_for_it(
    admission: Admission, valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Delivering the first, all that waits is saved, and a new one stands in its place."""
    monkeypatch.setattr(settlements, "MOST_WAITING", 1)
    async with running(admission, "first") as first:
        first._queue(report(1))
        await asyncio.sleep(0)  # its delivery has begun
        await asyncio.sleep(0)
        first._queue(report(2))  # saves the first, then waits in its place
        await eventually(lambda: "req-2" in reported(valkey))


async def test_a_request_whose_hold_redis_lost_makes_sums_be_read_anew(
    admission: Admission, valkey: redis.Redis
) -> None:
    async with running(admission) as settlement:
        lost = await admit(admission, 1)
        valkey.flushdb()
        await admit(admission, 2)
        assert state_of(valkey).micros == 0
        await settlement.settle(lost)

        assert reported(valkey) == {"req-1": 1}
        assert state_of(valkey).micros == -1  # unknown, until the next request asks
        await admit(admission, 3)
        assert (state_of(valkey).micros, state_of(valkey).micros_held) == (0, 100)


async def test_what_redis_loses_before_the_ledger_has_it_is_delivered_again(
    admission: Admission, valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And only what is so recent that the ledger may not have it."""
    async with running(admission) as settlement:
        await settlement.settle(await admit(admission, 1))
        monkeypatch.setattr(settlements, "KEPT_S", 0.2)
        await asyncio.sleep(0.25)
        for number in (2, 3):
            await settlement.settle(await admit(admission, number))
        valkey.flushdb()
        assert reported(valkey) == {}
        settlement.deliver_again()
        await eventually(lambda: len(reported(valkey)) == 2)
        assert reported(valkey) == {"req-2": 1, "req-3": 1}

        valkey.flushdb()  # twice in a row loses nothing either
        settlement.deliver_again()
        await eventually(lambda: len(reported(valkey)) == 2)


WRITER = """
import asyncio, sys, time
from pathlib import Path
from inference.settlement_journal import Journal

async def main():
    journal = Journal(Path(sys.argv[1]), "dying", 30, lambda: True)
    for line in sys.stdin.buffer:
        journal.note(bytes.fromhex(line.decode()))
    await asyncio.sleep(0)
    print("written", flush=True)
    time.sleep(60)

asyncio.run(main())
"""


async def test_what_only_a_killed_gateway_knew_the_next_one_delivers(
    admission: Admission, valkey: redis.Redis, state_dir: Path
) -> None:
    """Not before it is dead: until then it delivers its settlements itself."""
    folder = state_dir / "unsettled"
    lines = b"".join(encode_report(report(number)).hex().encode() + b"\n" for number in range(4))
    command = [sys.executable, "-c", WRITER, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdin is not None and writer.stdout is not None
        writer.stdin.write(lines)
        writer.stdin.close()
        assert await asyncio.to_thread(writer.stdout.readline) == b"written\n"
        async with running(admission) as settlement:
            settlement._adopt()
            assert not settlement._waiting
            writer.kill()
            writer.wait()
            settlement._adopt()
            assert len(settlement._waiting) == 4
            await eventually(lambda: len(reported(valkey)) == 4)
    assert reported(valkey) == {f"req-{number}": 1 for number in range(4)}
    assert list(folder.glob("*")) == []


async def test_a_journal_is_as_long_as_what_may_be_lost(tmp_path: Path) -> None:
    delivered = False
    journal = Journal(tmp_path, "gateway", 0.02, lambda: delivered)
    with mock.patch.object(settlement_journal, "SEGMENT_S", 0.01):
        for number in range(6):
            journal.note(b"%d" % number)
            await asyncio.sleep(0.015)
        assert len(list(tmp_path.glob("*"))) == 6  # something old waits still
        delivered = True
        journal.note(b"last")
        await asyncio.sleep(0.015)
    assert 1 < len(list(tmp_path.glob("*"))) < 5
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in tmp_path.glob("*"))
    journal.remove()
    assert list(tmp_path.glob("*")) == []


async def test_a_full_disk_stops_no_request(
    admission: Admission, valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    async with running(admission) as settlement:
        monkeypatch.setattr(settlement_journal.os, "write", full)
        await settlement.settle(await admit(admission, 1))
        monkeypatch.undo()
        assert reported(valkey) == {"req-1": 1}
