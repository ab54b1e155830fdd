"""Requests of one moment share a call of the script; each is judged as if it were alone."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import redis
from redis.exceptions import ConnectionError as RedisConnectionError

from tenants.admission import Admission
from tenants.admission.together import MOST_AT_ONCE
from tenants.errors import LimitExceeded
from tenants.patience import Patience
from tenants.principal import Limits, Principal
from tenants.redis_link import RedisLink
from tests.tenants.factory import MODEL, make_principal, state_of

AT_ONCE = Limits(concurrent_requests=4, monthly_tokens=10_000)


def asked(admission: Admission, principal: Principal, request_id: str) -> Any:
    return admission.admit(
        principal,
        request_id,
        model=MODEL,
        expected_tokens=10,
        most_tokens=20,
        most_cost_micros=5,
        note=request_id.encode(),
    )


def settled(admission: Admission, request_id: str, used: int = 7) -> Any:
    return admission.settle(request_id, used_tokens=used, cost_micros=3, report=b"r")


def scripts_run(valkey: redis.Redis) -> int:
    return sum(
        stats["calls"]
        for name, stats in valkey.info("commandstats").items()
        if name in {"cmdstat_evalsha", "cmdstat_eval"}
    )


async def warm(admission: Admission, principal: Principal) -> None:
    """So that sums are known and the script is loaded: what follows is one call."""
    await asked(admission, principal, "warm")
    await settled(admission, "warm", used=0)


async def test_of_many_at_once_no_more_get_in_than_there_are_places(
    valkey: redis.Redis, admission: Admission
) -> None:
    principal = make_principal(AT_ONCE)
    await warm(admission, principal)
    before = scripts_run(valkey)
    found = await asyncio.gather(
        *(asked(admission, principal, f"r{number}") for number in range(10)),
        return_exceptions=True,
    )
    assert scripts_run(valkey) == before + 1
    refused = [each for each in found if isinstance(each, LimitExceeded)]
    # In the order in which they came, and each by the limit that it met.
    assert [not isinstance(each, Exception) for each in found] == [True] * 4 + [False] * 6
    assert {each.limit for each in refused} == {"concurrent_requests"}
    assert valkey.zcard("holds") == 4


async def test_what_is_settled_at_once_is_given_back_once(
    valkey: redis.Redis, admission: Admission
) -> None:
    principal = make_principal(AT_ONCE)
    await warm(admission, principal)
    await asyncio.gather(*(asked(admission, principal, f"r{number}") for number in range(4)))
    before = scripts_run(valkey)
    # One of them twice, and one that nobody knows.
    names = ["r0", "r1", "r1", "r2", "r3", "nobody"]
    found = await asyncio.gather(*(settled(admission, name) for name in names))
    assert scripts_run(valkey) == before + 1
    assert found == [True, True, False, True, True, False]
    assert valkey.zcard("holds") == 0 and not valkey.keys("held:*")
    # A report for each that was told of: the ledger counts a request once.
    assert valkey.xlen("usage.reports") == 1 + len(names)
    state = state_of(valkey, f"o{principal.organization}")
    assert (state.in_flight, state.tokens, state.tokens_held) == (0, 4 * 7, 0)


async def test_strangers_at_once_share_a_call_and_nothing_else(
    valkey: redis.Redis, admission: Admission
) -> None:
    full, free = make_principal(Limits(concurrent_requests=0)), make_principal(AT_ONCE)
    free = Principal(**{name: getattr(free, name) for name in Principal.__slots__} | {
        "organization": 991, "project": 992, "api_key": 993,
    })  # fmt: skip
    await warm(admission, free)
    found = await asyncio.gather(
        *(
            asked(admission, principal, f"{place}-{number}")
            for number in range(3)
            for place, principal in (("full", full), ("free", free))
        ),
        return_exceptions=True,
    )
    assert [isinstance(each, LimitExceeded) for each in found] == [True, False] * 3
    assert state_of(valkey, "o991").in_flight == 3


async def test_more_than_a_call_takes_leave_in_several(
    valkey: redis.Redis, admission: Admission
) -> None:
    principal = make_principal(Limits(concurrent_requests=1_000))
    await warm(admission, principal)
    before = scripts_run(valkey)
    count = 2 * MOST_AT_ONCE + 1
    await asyncio.gather(*(asked(admission, principal, f"r{number}") for number in range(count)))
    assert scripts_run(valkey) == before + 3
    assert valkey.zcard("holds") == count


async def test_who_gives_up_leaves_no_hold_behind(
    valkey: redis.Redis, admission: Admission
) -> None:
    principal = make_principal(AT_ONCE)
    await warm(admission, principal)
    left = asyncio.ensure_future(asked(admission, principal, "left"))
    stays = asyncio.ensure_future(asked(admission, principal, "stays"))
    await asyncio.sleep(0)
    left.cancel()
    await stays
    with pytest.raises(asyncio.CancelledError):
        await left
    while valkey.exists("held:left"):
        await asyncio.sleep(0.01)
    assert valkey.zrange("holds", 0, -1) == [b"stays"]


async def test_a_script_that_redis_lost_is_told_again(
    valkey: redis.Redis, admission: Admission
) -> None:
    principal = make_principal(AT_ONCE)
    await warm(admission, principal)
    valkey.script_flush()
    await asyncio.gather(asked(admission, principal, "a"), asked(admission, principal, "b"))
    valkey.script_flush()
    assert await asyncio.gather(settled(admission, "a"), settled(admission, "b")) == [True, True]


async def test_an_error_is_everybodys_own(valkey: redis.Redis) -> None:
    link = RedisLink("redis://127.0.0.1:1", timeout_s=0.2, name="nowhere")
    admission = Admission(link, 60)
    found = await asyncio.gather(
        *(settled(admission, f"r{number}") for number in range(3)), return_exceptions=True
    )
    assert all(isinstance(each, RedisConnectionError) for each in found)
    assert len({id(each) for each in found}) == 3
    await link.aclose()


async def test_patience_ends_what_takes_too_long_and_nothing_else() -> None:
    loop, patience = asyncio.get_running_loop(), Patience(0.1)
    slow, quick, later = loop.create_future(), loop.create_future(), loop.create_future()
    for future in (slow, quick):
        patience.bound(future)
    quick.set_result("in time")
    began = loop.time()
    with pytest.raises(TimeoutError):
        await slow
    assert 0.09 < loop.time() - began < 5
    patience.bound(later)
    later.set_result("again")
    await asyncio.sleep(0.15)
    assert (await quick, await later) == ("in time", "again")
