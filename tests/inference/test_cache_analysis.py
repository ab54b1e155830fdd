"""What caching would save, from digests alone: counted as repeats are, told as advice."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import msgspec
import pytest
import redis
from django.conf import settings

from billing.models import Price
from billing.pricebook import Pricebook
from billing.usage import UsageReport
from inference import cache_analysis
from inference.cache_analysis import CacheAnalysis, Seen, analysis_key, day_key, digests_of
from inference.caching import LEAST_REQUESTS, get_caching_report, report_of
from inference.wire import Sampling
from tenants.models import Organization
from tenants.redis_link import RedisLink

FIXED = Sampling(max_tokens=8, temperature=0.0)
LOOSE = Sampling(max_tokens=8, temperature=1.0)
# A thousand prompt tokens cost 1,000 micro-dollars, 100 of them cached; ten of output 100.
PRICE = Price(
    model="m", effective_from="2026-01-01T00:00Z", input_micros_per_million=1_000_000,
    cached_input_micros_per_million=100_000, output_micros_per_million=10_000_000,
)  # fmt: skip
ORGANIZATION = Organization(pk=5)


def report(**changes: object) -> UsageReport:
    made = UsageReport(
        "r", 5, 1, 1, "m", "chat.completions", "completed", "gateway", 1_000, 0, 10,
        time.time(), None, 1,
    )  # fmt: skip
    return msgspec.structs.replace(made, **changes)


def prompt(number: int) -> list[int]:
    """Twenty tokens that are every prompt's beginning, and eighty of its own."""
    return [*range(20), *(number * 1000 + position for position in range(80))]


@pytest.fixture
async def analysis(valkey: redis.Redis) -> AsyncIterator[CacheAnalysis]:
    link = RedisLink(settings.REDIS_URL, timeout_s=5, name="analysis")
    PRICE.effective_from = Price._meta.get_field("effective_from").to_python("2026-01-01T00:00Z")
    yield CacheAnalysis(link, Pricebook([PRICE]))
    await link.aclose()


def note(
    analysis: CacheAnalysis, number: int, sampling: Sampling = FIXED, text: str = "", **use: object
) -> None:
    analysis.note(report(**use), 7, [prompt(number)], sampling, 1, text or f"question {number}")


def back_in_time(valkey: redis.Redis, hours: float) -> None:
    for member, at in valkey.zrange("caching.seen:5", 0, -1, withscores=True):
        valkey.zadd("caching.seen:5", {member: at - hours * 3600})


async def test_repeats_count_in_the_windows_that_reach_them(
    analysis: CacheAnalysis, valkey: redis.Redis
) -> None:
    for number in range(10):
        note(analysis, number)
    await analysis.flush()
    back_in_time(valkey, 2)
    for number in range(4):  # two hours later
        note(analysis, number)
    note(analysis, 0)  # and at once again
    await analysis.flush()
    found = get_caching_report(ORGANIZATION)

    assert (found.requests, found.fixed, found.hits) == (15, 15, 0)
    assert [each.requests for each in found.exact] == [1, 5, 5]
    assert [each.completion_tokens for each in found.exact] == [10, 50, 50]
    # 1,000 + 100 for a run, 100 for a hit.
    assert [each.micros for each in found.exact] == [1_000, 5_000, 5_000]
    assert [each.requests for each in found.alike] == [0, 0, 0]


async def test_what_is_not_fixed_is_no_exact_repeat_and_a_hit_saves_nothing_more(
    analysis: CacheAnalysis,
) -> None:
    for _ in range(2):
        note(analysis, 1, LOOSE)
    note(analysis, 2)
    note(analysis, 2, cache_hit=True, cached_tokens=1_000)
    await analysis.flush()
    found = get_caching_report(ORGANIZATION)

    assert (found.requests, found.fixed, found.hits, found.cached_tokens) == (4, 2, 1, 0)
    assert found.exact[-1].requests == 0


async def test_the_same_words_otherwise_are_alike(analysis: CacheAnalysis) -> None:
    note(analysis, 1, text="How do I bake bread?")
    note(analysis, 2, text="how do i, bread: bake")
    note(analysis, 3, text="How do I bake 2 breads?")
    await analysis.flush()

    assert [each.requests for each in get_caching_report(ORGANIZATION).alike] == [1, 1, 1]


async def test_beginnings_that_repeat_are_counted_in_tokens(analysis: CacheAnalysis) -> None:
    note(analysis, 1, cached_tokens=8)
    note(analysis, 2, cached_tokens=16)
    note(analysis, 2)
    await analysis.flush()
    found = get_caching_report(ORGANIZATION)

    assert (found.known_tokens, found.cached_tokens) == (16 + 96, 24)


async def test_nothing_of_a_prompt_is_kept_and_organizations_share_nothing(
    analysis: CacheAnalysis, valkey: redis.Redis
) -> None:
    note(analysis, 1, text="My secret is swordfish")
    await analysis.flush()
    kept = [valkey.dump(key) or b"" for key in valkey.keys("caching.*")]
    assert kept and not any(b"swordfish" in content for content in kept)
    assert all(0 < valkey.ttl(key) <= 8 * 86_400 for key in valkey.keys("caching.*"))
    seen = Seen(report(), 7, [prompt(1)], FIXED, 1, "x")
    ours, theirs = (set(digests_of(seen, analysis_key(each))) for each in (5, 6))
    assert len(ours) == 2 and not ours & theirs
    assert get_caching_report(Organization(pk=6)).requests == 0


async def test_a_busy_organization_is_sampled_and_still_counted_right(
    analysis: CacheAnalysis, valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_analysis, "_BUDGET_PER_S", 5.0)
    analysis._rates[5], analysis._masks[5] = 20.0, 3  # requests a second of late: one in four
    noted = 0
    for _ in range(100):
        for _ in range(20):
            note(analysis, noted % 1_000)  # every prompt comes twice
            noted += 1
        await analysis.flush()
    seen = valkey.zcard("caching.seen:5")
    found = get_caching_report(ORGANIZATION)

    assert 2 * 1_000 / 8 < seen < 2 * 1_000 / 2.5  # a quarter of a thousand, two digests each
    assert found.requests == pytest.approx(noted, rel=0.25)
    assert found.exact[0].requests == found.requests / 2  # who is in the sample is in it twice
    monkeypatch.setattr(cache_analysis, "MOST_SEEN", 10)
    note(analysis, 5_000)
    analysis._masks[5] = 0
    note(analysis, 5_001)
    await analysis.flush()
    assert valkey.zcard("caching.seen:5") == 10


@pytest.mark.parametrize(
    ("sums", "ttl_s", "semantic", "expected"),
    [
        ({}, 0, "off", []),
        ({"requests": LEAST_REQUESTS - 1, "exact_24h": 90}, 0, "off", []),
        ({"requests": 1000, "exact_1h": 95, "exact_4h": 98, "exact_24h": 100}, 0, "off",
         [("exact", 3_600)]),
        ({"requests": 1000, "exact_1h": 50, "exact_4h": 70, "exact_24h": 100}, 3_600, "off",
         [("exact", 86_400)]),
        ({"requests": 1000, "exact_1h": 95, "exact_4h": 98, "exact_24h": 100}, 3_600, "off", []),
        ({"requests": 1000, "exact_24h": 19}, 0, "off", []),
        ({"requests": 1000, "alike_24h": 50}, 0, "off", [("semantic", None)]),
        ({"requests": 1000, "alike_24h": 50}, 0, "asked", []),
        ({"requests": 1000, "prompt_tokens": 100, "known_tokens": 60, "cached_tokens": 10}, 0,
         "off", [("prefix", None)]),
        ({"requests": 1000, "prompt_tokens": 100, "known_tokens": 60, "cached_tokens": 55}, 0,
         "off", []),
    ],
)  # fmt: skip
def test_advice(
    sums: dict[str, int], ttl_s: int, semantic: str, expected: list[tuple[str, int | None]]
) -> None:
    advice = report_of(sums, ttl_s, semantic).advice
    assert [(each.code, each.response_cache_ttl_s) for each in advice] == expected


def test_a_days_sums_have_a_key_of_their_own() -> None:
    assert day_key(5, 0.0) == "caching.day:5:19700101"
