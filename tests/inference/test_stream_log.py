"""Logs of streams: numbers that never change, one writer, and an end that nothing follows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from django.conf import settings
from redis import Redis

from inference import stream_log
from inference.stream_log import Claim, Event, LogUnavailable, Meta, StreamLogs
from tenants.redis_link import RedisLink

MINE = Meta(organization=7, project=8, api_key=9, endpoint="/v1/chat/completions")


def run(work: Callable[[StreamLogs], Awaitable[Any]]) -> Any:
    async def inner() -> Any:
        link = RedisLink(settings.REDIS_URL, timeout_s=5, name="test.logs")
        try:
            return await work(StreamLogs(link))
        finally:
            await link.aclose()

    return asyncio.run(inner())


def expire_leases(valkey: Redis) -> None:
    for member in valkey.zrange("logs.leases", 0, -1):
        valkey.zadd("logs.leases", {member: 1})


async def texts(logs: StreamLogs, log_id: str, after: int = 0) -> tuple[str, list[tuple[int, str]]]:
    found: list[tuple[int, str]] = []
    state = ""
    async for state, events in logs.follow(log_id, after):
        found += [(number, event.data.decode()) for number, event in events]
    return state, found


def test_events_come_back_by_number_wherever_a_batch_was_cut(valkey: Redis) -> None:
    async def work(logs: StreamLogs) -> None:
        writer = await logs.begin("a", MINE)
        assert writer is not None
        for number in range(1, 11):
            assert writer.append(Event(b"%d" % number)) == number
            if number in (3, 4, 8):
                await writer.drain()
        assert await writer.end() == stream_log.DONE
        for after in range(12):
            state, found = await texts(logs, "a", after)
            assert state == stream_log.DONE
            assert found == [(n, str(n)) for n in range(after + 1, 11)]

    run(work)
    assert 1 < valkey.xlen("log:a") < 10, "what comes together is one entry"
    assert 0 < valkey.ttl("log:a") <= stream_log.KEPT_S


def test_a_reader_hears_live_events_and_is_seen_by_the_writer(valkey: Redis) -> None:
    async def work(logs: StreamLogs) -> None:
        writer = await logs.begin("a", MINE)
        assert writer is not None
        assert not await logs.has_reader("a")
        reading = asyncio.create_task(texts(logs, "a"))
        for number in range(20):
            writer.append(Event(b"%d" % number))
            await asyncio.sleep(0.02)
        assert await logs.has_reader("a")
        await writer.end()
        state, found = await reading
        assert state == stream_log.DONE and [n for n, _ in found] == list(range(1, 21))

    run(work)


def test_a_log_whose_writer_died_is_lost_and_refuses_it_afterwards(valkey: Redis) -> None:
    async def work(logs: StreamLogs) -> None:
        writer = await logs.begin("a", MINE)
        assert writer is not None
        writer.append(Event(b"1"))
        await writer.drain()
        expire_leases(valkey)
        assert await texts(logs, "a") == (stream_log.LOST, [(1, "1")])
        writer.append(Event(b"2"))
        assert await writer.end() == stream_log.LOST
        assert await writer.commit() == stream_log.LOST
        assert await texts(logs, "a") == (stream_log.LOST, [(1, "1")])

    run(work)


def test_a_lease_is_renewed_while_the_log_is_open(
    valkey: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_log, "RENEW_S", 0.02)

    async def work(logs: StreamLogs) -> None:
        writer = await logs.begin("a", MINE)
        other = await logs.begin("b", MINE)
        assert writer is not None and other is not None
        await other.end()
        expire_leases(valkey)
        task = asyncio.create_task(logs.run())
        await asyncio.sleep(0.2)
        task.cancel()
        assert (await logs.read("a", 0))[0] == stream_log.OPEN

    run(work)
    assert valkey.zscore("logs.leases", "a") > time.time() * 1000
    assert valkey.zscore("logs.leases", "b") is None, "a closed one has none to renew"


def test_what_grows_beyond_its_bound_is_given_up_and_makes_room(
    valkey: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_log, "MOST_BYTES", 2_000)

    async def work(logs: StreamLogs) -> None:
        writer = await logs.begin("a", MINE)
        assert writer is not None
        for _ in range(4):
            writer.append(Event(b"x" * 900))
            await writer.drain()
        assert writer.state == stream_log.FULL
        assert await texts(logs, "a") == (stream_log.FULL, [])

    run(work)
    assert not valkey.exists("log:a")
    assert int(valkey.hget("logs.sizes:7", "total")) == stream_log.OVERHEAD_BYTES


def test_an_organization_has_so_much_room_and_no_more_until_some_expires(
    valkey: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "STREAM_LOG_ORGANIZATION_BYTES", 3 * stream_log.OVERHEAD_BYTES)

    async def work(logs: StreamLogs) -> None:
        for name in "abc":
            assert await logs.begin(name, MINE) is not None
        assert await logs.begin("d", MINE) is None
        other = Meta(organization=1, project=8, api_key=9, endpoint="/v1/embeddings")
        assert await logs.begin("e", other) is not None, "another's room is another's"
        valkey.zadd("logs.kept:7", {"b": 1})
        assert await logs.begin("d", MINE) is not None
        claim, writer = await logs.claim("claim", "f", "g", MINE)
        assert claim.outcome == "no room" and writer is None
        assert not valkey.exists("claim")

    run(work)
    assert int(valkey.hget("logs.sizes:7", "total")) == 3 * stream_log.OVERHEAD_BYTES


def test_of_claims_at_once_one_is_mine(valkey: Redis) -> None:
    async def work(logs: StreamLogs) -> None:
        claims = [logs.claim("claim", "f", f"log{number}", MINE) for number in range(20)]
        found = await asyncio.gather(*claims)
        mine = [writer for claim, writer in found if claim.outcome == "mine"]
        assert len(mine) == 1 and mine[0] is not None
        others = {claim for claim, writer in found if writer is None}
        assert others == {Claim(stream_log.OPEN, mine[0].log_id, is_paid=False)}
        assert (await logs.claim("claim", "g", "z", MINE))[0].outcome == "reused"
        await mine[0].end()
        assert (await logs.claim("claim", "f", "z", MINE))[0].outcome == stream_log.DONE

    run(work)


@pytest.mark.parametrize("is_committed", [False, True])
def test_a_claim_of_a_dead_gateway_is_free_and_knows_whether_it_was_paid(
    valkey: Redis, is_committed: bool
) -> None:
    async def work(logs: StreamLogs) -> None:
        _, writer = await logs.claim("claim", "f", "first", MINE)
        assert writer is not None
        if is_committed:
            assert await writer.commit() == stream_log.OPEN
        expire_leases(valkey)
        claim, second = await logs.claim("claim", "f", "second", MINE)
        assert claim == Claim("mine", "second", is_paid=is_committed)
        assert second is not None and await writer.commit() == stream_log.LOST
        # Who dies after one that was paid leaves it paid.
        expire_leases(valkey)
        claim, _ = await logs.claim("claim", "f", "third", MINE)
        assert claim.is_paid == is_committed

    run(work)


def test_forsaking_a_log_forbids_to_commit_it(valkey: Redis) -> None:
    async def work(logs: StreamLogs) -> None:
        link = logs._link
        writer, committed = await logs.begin("a", MINE), await logs.begin("b", MINE)
        assert writer is not None and committed is not None
        await committed.commit()
        assert not await stream_log.forsake(link, "a")
        assert await stream_log.forsake(link, "b")
        assert not await stream_log.forsake(link, "never")
        assert await writer.commit() == stream_log.LOST

    run(work)


def test_without_redis_nothing_is_promised() -> None:
    async def work() -> None:
        link = RedisLink("redis://127.0.0.1:1/0", timeout_s=1, name="test.logs")
        logs = StreamLogs(link)
        for asked in (logs.begin("a", MINE), logs.claim("c", "f", "a", MINE), logs.meta("a")):
            with pytest.raises(LogUnavailable):
                await asked
        await link.aclose()

    asyncio.run(work())


# --- Durable logs -----------------------------------------------------------------------------------

DURABLE = Meta(7, 8, 9, "/v1/responses", is_durable=True, open_s=60)


def test_writers_of_a_durable_log_follow_one_another(valkey: Redis) -> None:
    async def work(logs: StreamLogs) -> None:
        assert await logs.begin_durable("a", DURABLE, [Event(b"1"), Event(b"2")])
        first = await logs.take("a", 1)
        assert first is not None and first.last == 2
        assert first.append(Event(b"3")) == 3
        await first.drain()
        assert not valkey.zcard("logs.leases"), "nobody renews it, and it is not lost"
        assert (await logs.read("a", 0))[0] == stream_log.OPEN
        second = await logs.take("a", 2)
        assert second is not None and second.last == 3
        first.append(Event(b"too late"))
        assert await first.drain() == await first.end() == stream_log.TAKEN
        assert await logs.take("a", 2) is None and await logs.take("a", 1) is None
        second.append(Event(b"4"))
        assert await second.end() == stream_log.DONE
        assert await texts(logs, "a") == (stream_log.DONE, [(n, str(n)) for n in range(1, 5)])
        assert await logs.take("a", 3) is None

    run(work)


def test_whoever_finds_that_it_has_ended_closes_it_once(valkey: Redis) -> None:
    async def work(logs: StreamLogs) -> None:
        assert await logs.begin_durable("a", DURABLE, [Event(b"1")])
        writer = await logs.take("a", 1)
        assert writer is not None
        assert await logs.last("a") == 1 and await logs.last("none") == 0
        writer.append(Event(b"2"))
        await writer.drain()
        assert not await logs.finish("a", DURABLE, 1, Event(b"end")), "there is more by now"
        assert await logs.finish("a", DURABLE, 2, Event(b"end"))
        assert not await logs.finish("a", DURABLE, 3, Event(b"end"))
        writer.append(Event(b"too late"))
        assert await writer.end() == stream_log.DONE
        assert await texts(logs, "a") == (stream_log.DONE, [(1, "1"), (2, "2"), (3, "end")])

    run(work)
    assert 0 < valkey.ttl("log:a") <= stream_log.KEPT_S


def test_a_dropped_log_makes_room(valkey: Redis) -> None:
    async def work(logs: StreamLogs) -> None:
        assert await logs.begin_durable("a", DURABLE, [Event(b"x" * 900)])
        await logs.drop("a", 7)
        assert (await logs.read("a", 0))[0] == stream_log.GONE

    run(work)
    assert not valkey.exists("log:a", "log:a:meta", "logs.kept:7")
    assert int(valkey.hget("logs.sizes:7", "total")) == 0
