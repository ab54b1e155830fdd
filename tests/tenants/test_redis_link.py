"""The shared connection to Redis: each answer to its own caller, whatever happens between."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator

import pytest
import redis
from django.conf import settings
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from tenants import redis_link
from tenants.redis_link import RedisLink, Script
from tests.workers.proxy import Proxy, proxied

ECHO = Script("return ARGV[1]")


@pytest.fixture
async def proxy(valkey: redis.Redis) -> AsyncIterator[Proxy]:
    async with proxied(settings.REDIS_URL) as proxy:
        yield proxy


@pytest.fixture
async def far_link(proxy: Proxy) -> AsyncIterator[RedisLink]:
    """A link whose connection can be cut."""
    link = RedisLink(proxy.url, timeout_s=1, name="far")
    yield link
    await link.aclose()


async def test_every_caller_gets_its_own_answer_though_others_are_cancelled(
    link: RedisLink,
) -> None:
    """The leak of March 2023: a cancelled call's answer went to the next caller."""

    async def ask(number: int) -> None:
        assert await link.call("ECHO", f"answer {number}") == f"answer {number}".encode()

    random.seed(7)
    tasks = []
    for number in range(2_000):
        tasks.append(asyncio.create_task(ask(number)))
        if random.random() < 0.3:
            await asyncio.sleep(0)
            random.choice(tasks).cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)

    cancelled = [each for each in results if isinstance(each, asyncio.CancelledError)]
    assert cancelled and len(cancelled) < len(results)
    assert {type(each) for each in results} <= {asyncio.CancelledError, type(None)}
    assert await link.call("ECHO", "last") == b"last"


async def test_all_share_one_connection(link: RedisLink, valkey: redis.Redis) -> None:
    await asyncio.gather(*(link.call("PING") for _ in range(50)))

    assert [each["name"] for each in valkey.client_list()].count("test") == 1


async def test_an_error_reply_is_its_callers_alone(link: RedisLink, valkey: redis.Redis) -> None:
    valkey.set("text", "a")
    wrong, right = await asyncio.gather(
        link.call("LPUSH", "text", "x"), link.call("GET", "text"), return_exceptions=True
    )

    assert isinstance(wrong, ResponseError) and right == b"a"


async def test_a_script_that_redis_lost_is_sent_again(link: RedisLink, valkey: redis.Redis) -> None:
    for _ in range(2):
        valkey.script_flush()
        assert await link.run_script(ECHO, [], [b"\0\r\n\xff"]) == b"\0\r\n\xff"


async def test_a_lost_connection_fails_its_callers_and_the_next_ones_get_a_new_one(
    far_link: RedisLink, proxy: Proxy
) -> None:
    await far_link.call("SET", "a", "1")
    waiting = asyncio.create_task(far_link.call("BLPOP", "nothing", 30))
    await asyncio.sleep(0.05)
    await proxy.cut()
    with pytest.raises(RedisError):
        await waiting
    with pytest.raises(RedisError):
        await far_link.call("GET", "a")
    await proxy.mend()

    await asyncio.sleep(redis_link.RECONNECT_PAUSE_S + 0.05)
    assert await far_link.call("GET", "a") == b"1"


async def test_an_answer_that_does_not_come_is_a_timeout_for_all_behind_it(
    valkey: redis.Redis,
) -> None:
    link = RedisLink(settings.REDIS_URL, timeout_s=0.3, name="impatient")
    started = time.monotonic()
    answers = await asyncio.gather(
        link.call("BLPOP", "nothing", 30), link.call("PING"), return_exceptions=True
    )
    assert [type(each) for each in answers] == [RedisTimeoutError] * 2
    assert time.monotonic() - started < 10

    assert await link.call("PING") == b"PONG"  # on a new connection
    await link.aclose()


async def test_when_redis_is_away_callers_hear_so_at_once_and_do_not_queue_up() -> None:
    link = RedisLink("redis://127.0.0.1:1/0", timeout_s=5, name="nowhere")
    started = time.monotonic()
    answers = await asyncio.gather(*(link.call("PING") for _ in range(500)), return_exceptions=True)

    assert all(isinstance(each, RedisError) for each in answers)
    assert time.monotonic() - started < 3
    await link.aclose()


async def test_more_callers_than_the_bound_are_refused_and_the_others_answered(
    link: RedisLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_link, "MOST_PENDING", 10)
    await link.call("PING")
    answers = await asyncio.gather(
        *(link.call("ECHO", number) for number in range(30)), return_exceptions=True
    )

    assert answers[:10] == [b"%d" % number for number in range(10)]
    assert all(isinstance(each, RedisError) for each in answers[10:])


async def test_a_refused_log_in_leaves_no_connection_behind(valkey: redis.Redis) -> None:
    address = settings.REDIS_URL.rpartition("@")[2].removeprefix("redis://")
    link = RedisLink(f"redis://nobody:wrong@{address}", timeout_s=2, name="intruder")
    before = len(valkey.client_list())
    for _ in range(3):
        with pytest.raises(RedisError):
            await link.call("PING")
        await asyncio.sleep(redis_link.RECONNECT_PAUSE_S + 0.02)
    await asyncio.sleep(0.1)

    assert len(valkey.client_list()) <= before
    await link.aclose()


async def test_a_link_that_is_closed_while_it_connects_leaves_no_connection_behind(
    valkey: redis.Redis,
) -> None:
    link = RedisLink(settings.REDIS_URL, timeout_s=2, name="brief")
    call = asyncio.create_task(link.call("PING"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await link.aclose()
    await asyncio.gather(call, return_exceptions=True)
    await asyncio.sleep(0.1)

    assert "brief" not in [each["name"] for each in valkey.client_list()]


async def test_what_is_asked_while_answers_are_outstanding_leaves_in_one_write(
    link: RedisLink, valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever ends first: the answers that they wait for, or the moment that they may wait."""
    monkeypatch.setattr(redis_link, "MOST_HELD_S", 5.0)
    await link.call("PING")
    sent_before = valkey.info("stats")["total_reads_processed"]
    waiting = link.start("BLPOP", "letters", 5)
    await asyncio.sleep(0.05)
    echoes = []
    for number in range(20):
        echoes.append(link.start("ECHO", number))
        await asyncio.sleep(0)
    await asyncio.sleep(0.05)
    assert valkey.info("stats")["total_reads_processed"] - sent_before == 1 + 1  # BLPOP, and INFO
    valkey.lpush("letters", "a")

    assert await waiting == [b"letters", b"a"]
    assert await asyncio.gather(*echoes) == [b"%d" % number for number in range(20)]
    # The LPUSH, the echoes in one, and INFO twice.
    assert valkey.info("stats")["total_reads_processed"] - sent_before == 5


async def test_a_redis_that_is_far_away_holds_nobody_for_a_round_trip(
    link: RedisLink, valkey: redis.Redis
) -> None:
    await link.call("PING")
    commands_before = valkey.info("commandstats").get("cmdstat_set", {}).get("calls", 0)
    waiting = link.start("BLPOP", "letters", 5)
    await asyncio.sleep(0.05)
    setting = link.start("SET", "a", "1")  # Redis reads it, and runs it after the BLPOP
    read_before = valkey.info("stats")["total_reads_processed"]
    await asyncio.sleep(0.1)

    assert valkey.info("stats")["total_reads_processed"] - read_before == 1 + 1
    assert valkey.info("commandstats").get("cmdstat_set", {}).get("calls", 0) == commands_before
    valkey.lpush("letters", "a")
    await asyncio.gather(waiting, setting)


async def test_the_socket_of_the_same_server_is_taken_before_its_port(
    valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = valkey.config_get("unixsocket")["unixsocket"]
    monkeypatch.setattr(settings, "REDIS_SOCKET", path)
    near = RedisLink(settings.REDIS_URL, timeout_s=5, name="near")
    await near.call("PING")
    clients = {each["name"]: each for each in valkey.client_list()}

    assert path in clients["near"]["addr"]
    await near.aclose()
    # Of another server nothing is known but its address.
    elsewhere = RedisLink("redis://127.0.0.1:1/0", timeout_s=1, name="elsewhere")
    with pytest.raises(RedisError):
        await elsewhere.call("PING")
    await elsewhere.aclose()
