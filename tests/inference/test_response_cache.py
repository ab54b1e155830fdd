"""The exact response cache: one organization's, deterministic requests only, a miss if in doubt."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import msgspec
import pytest
import redis
from django.conf import settings
from hypothesis import given
from hypothesis import strategies as st

from inference import response_cache, wire
from inference.actions import forget_answers
from inference.response_cache import (
    CachedAnswer,
    CachedChoice,
    ResponseCache,
    Turn,
    is_cacheable,
    key_of,
)
from inference.wire import Parsing, Sampling
from tenants.models import AuditEvent
from tenants.redis_link import RedisLink
from tests.cast import build_cast

GREEDY = Sampling(temperature=0.0)
PROMPTS = [[1, 2, 3]]
KEY = key_of(5, 1, PROMPTS, GREEDY, 1)


@pytest.fixture
async def link(valkey: redis.Redis) -> AsyncIterator[RedisLink]:
    link = RedisLink(settings.REDIS_URL, timeout_s=5, name="cache")
    yield link
    await link.aclose()


@pytest.fixture
def cache(link: RedisLink) -> ResponseCache:
    return ResponseCache(link)


def answer(organization: int = 5, text: str = "Paris.", age_s: float = 0) -> CachedAnswer:
    choices = [CachedChoice(text, 3, "stop")]
    return CachedAnswer(organization, "req-1", time.time() - age_s, choices)


async def test_an_answer_comes_back_as_it_was_kept(cache: ResponseCache) -> None:
    kept = answer(age_s=12)
    assert await cache.get(KEY, 5) is None
    await cache.put(KEY, kept, 60)

    found = await cache.get(KEY, 5)
    assert found == kept
    assert 12 <= found.age_s < 30


async def test_an_answer_lives_as_long_as_was_asked(
    cache: ResponseCache, valkey: redis.Redis
) -> None:
    await cache.put(KEY, answer(), 60)

    assert 0 < valkey.ttl(KEY) <= 60


async def test_another_organizations_answer_is_never_handed_over(cache: ResponseCache) -> None:
    """Even under the right key, as if a connection's replies had been mixed up."""
    await cache.put(KEY, answer(organization=6), 60)

    assert await cache.get(KEY, 5) is None


@pytest.mark.parametrize("content", [b"", b"\xc1", b"nonsense", wire.encode([5]), wire.encode({})])
async def test_what_cannot_be_read_is_a_miss(
    cache: ResponseCache, valkey: redis.Redis, content: bytes
) -> None:
    valkey.set(KEY, content)

    assert await cache.get(KEY, 5) is None


async def test_a_key_that_holds_something_else_is_a_miss(
    cache: ResponseCache, valkey: redis.Redis
) -> None:
    valkey.lpush(KEY, b"a list")

    assert await cache.get(KEY, 5) is None


async def test_without_redis_everything_is_a_miss_and_nothing_an_error() -> None:
    nowhere = RedisLink("redis://127.0.0.1:1/0", timeout_s=1, name="nowhere")
    cache = ResponseCache(nowhere)

    assert await cache.get(KEY, 5) is None
    await cache.put(KEY, answer(), 60)
    await nowhere.aclose()


async def test_a_huge_answer_is_not_kept(cache: ResponseCache, valkey: redis.Redis) -> None:
    await cache.put(KEY, answer(text="x" * response_cache.MOST_BYTES), 60)

    assert not valkey.exists(KEY)


# --- One run for those who ask the same at once ---------------------------------------------


async def test_of_those_who_ask_at_once_one_leads_and_the_others_get_its_answer(
    cache: ResponseCache,
) -> None:
    lead = await cache.get_or_lead(KEY, 5)
    assert lead.is_leader and lead.answer is None
    followers = [asyncio.create_task(cache.get_or_lead(KEY, 5)) for _ in range(20)]
    other = await cache.get_or_lead(key_of(6, 1, PROMPTS, GREEDY, 1), 6)
    assert other.is_leader  # another organization runs its own
    await asyncio.sleep(0.05)
    assert not any(task.done() for task in followers)
    await cache.put(KEY, answer(), 60)

    turns = await asyncio.gather(*followers)
    assert all(turn == Turn(answer=turns[0].answer) for turn in turns)
    assert turns[0].answer is not None and turns[0].answer.source_request == "req-1"
    assert (await cache.get_or_lead(KEY, 5)).answer is not None  # and whoever comes later


async def test_a_leader_that_fails_leaves_the_lead_to_one_other(cache: ResponseCache) -> None:
    await cache.get_or_lead(KEY, 5)
    followers = [asyncio.create_task(cache.get_or_lead(KEY, 5)) for _ in range(5)]
    await asyncio.sleep(0.05)
    await cache.give_up(KEY)
    await asyncio.sleep(0.05)

    done = [task for task in followers if task.done()]
    assert len(done) == 1 and done[0].result().is_leader
    await cache.put(KEY, answer(), 60)
    turns = await asyncio.gather(*followers)
    assert sum(turn.is_leader for turn in turns) == 1


async def test_a_follower_that_leaves_harms_nobody(cache: ResponseCache) -> None:
    await cache.get_or_lead(KEY, 5)
    leaving = asyncio.create_task(cache.get_or_lead(KEY, 5))
    staying = asyncio.create_task(cache.get_or_lead(KEY, 5))
    await asyncio.sleep(0.05)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    await cache.put(KEY, answer(), 60)

    assert (await staying).answer is not None


async def test_gateways_share_one_run_too(link: RedisLink) -> None:
    here, there = ResponseCache(link), ResponseCache(link)
    assert (await here.get_or_lead(KEY, 5)).is_leader
    following = asyncio.create_task(there.get_or_lead(KEY, 5))
    await asyncio.sleep(0.2)
    assert not following.done()
    await here.put(KEY, answer(), 60)
    assert (await following).answer is not None


async def test_a_gateway_that_died_holds_the_lead_no_longer_than_its_lease(
    link: RedisLink, valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(response_cache, "LEASE_MS", 300)
    assert (await ResponseCache(link).get_or_lead(KEY, 5)).is_leader
    began = time.monotonic()
    assert (await ResponseCache(link).get_or_lead(KEY, 5)).is_leader
    assert 0.2 < time.monotonic() - began < 5


async def test_nobody_waits_longer_than_the_bound(
    link: RedisLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(response_cache, "FOLLOW_S", 0.2)
    cache = ResponseCache(link)
    await cache.get_or_lead(KEY, 5)

    assert await cache.get_or_lead(KEY, 5) == Turn()  # runs alone
    elsewhere = await ResponseCache(link).get_or_lead(KEY, 5)
    assert elsewhere.answer is None


async def test_a_lease_is_given_back_only_by_who_has_it(
    link: RedisLink, valkey: redis.Redis
) -> None:
    await ResponseCache(link).get_or_lead(KEY, 5)
    await ResponseCache(link).give_up(KEY)

    assert valkey.exists(f"{KEY}:lease")


# --- Void answers ---------------------------------------------------------------------------


async def test_what_an_organization_declares_void_is_void_also_if_it_is_still_being_made(
    cache: ResponseCache, valkey: redis.Redis
) -> None:
    await cache.put(KEY, answer(age_s=10), 60)
    valkey.set(response_cache.void_key(5), time.time() - 5)
    assert await cache.get(KEY, 5) is None
    turn = await cache.get_or_lead(KEY, 5)
    assert turn.is_leader

    await cache.put(KEY, answer(age_s=6), 60)  # its run began before
    assert await cache.get(KEY, 5) is None
    await cache.put(KEY, answer(age_s=1), 60)
    assert await cache.get(KEY, 5) is not None


async def test_one_may_ask_for_a_young_answer(cache: ResponseCache) -> None:
    await cache.put(KEY, answer(age_s=30), 60)

    assert await cache.get(KEY, 5, max_age_s=20) is None
    assert await cache.get(KEY, 5, max_age_s=40) is not None


@pytest.mark.django_db
def test_forgetting_answers_is_audited_and_outlives_them(valkey: redis.Redis) -> None:
    cast = build_cast()
    organization = cast.organization
    forget_answers(organization, acting_user=cast.owner)

    assert float(valkey.get(response_cache.void_key(organization.pk)) or 0) == pytest.approx(
        time.time(), abs=5
    )  # type: ignore[arg-type]
    assert valkey.ttl(response_cache.void_key(organization.pk)) > 86_400
    event = AuditEvent.objects.get(action="response_cache.cleared")
    assert (event.organization_id, event.acting_user_id) == (organization.pk, cast.owner.pk)


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (GREEDY, True),
        (Sampling(temperature=0.7, seed=0), True),
        (Sampling(temperature=0.7), False),
        (Sampling(), False),
        (Sampling(temperature=0.0, logprobs=0), False),
    ],
)
def test_only_what_must_answer_alike_is_cacheable(sampling: Sampling, expected: bool) -> None:
    assert is_cacheable(sampling) is expected


def different_requests() -> list[tuple[int, int, list[list[int]], Sampling, int]]:
    base = (5, 1, PROMPTS, GREEDY, 1)
    changed = [
        msgspec.structs.replace(GREEDY, **{name: value})
        for name, value in {
            "max_tokens": 17, "min_tokens": 1, "temperature": 0.1, "top_p": 0.9, "top_k": 1,
            "min_p": 0.1, "presence_penalty": 0.1, "frequency_penalty": 0.1,
            "repetition_penalty": 1.1, "seed": 0, "stop": ["a"], "stop_token_ids": [1],
            "include_stop_str_in_output": True, "ignore_eos": True,
            "skip_special_tokens": False, "spaces_between_special_tokens": False,
            "logprobs": 0, "logit_bias": {1: 1.0}, "bad_words": ["a"],
            "allowed_token_ids": [1], "structured": {"regex": "a"},
                "structured_field": "a", "parsing": Parsing(), "prompt_logprobs": 0,
        }.items()
    ]  # fmt: skip
    assert len(changed) == len(Sampling.__struct_fields__), "a new field: add it above"
    return [
        base,
        (6, *base[1:]),
        (5, 2, *base[2:]),
        (*base[:2], [[1, 2], [3]], *base[3:]),
        (*base[:2], [[1, 2, 3], []], *base[3:]),
        (*base[:4], 2),
        *((5, 1, PROMPTS, sampling, 1) for sampling in changed),
    ]


def test_every_difference_makes_another_key() -> None:
    requests = different_requests()

    assert len({key_of(*request) for request in requests}) == len(requests)


prompts = st.lists(st.lists(st.integers(0, 300), max_size=4), max_size=3)


@given(prompts, prompts)
def test_two_requests_share_a_key_only_if_they_are_one(
    first: list[list[int]], second: list[list[int]]
) -> None:
    assert (key_of(5, 1, first, GREEDY, 1) == key_of(5, 1, second, GREEDY, 1)) == (first == second)
