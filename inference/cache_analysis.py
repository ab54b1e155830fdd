"""What caching would save an organization, seen from its traffic without keeping any of it.

Of a sample of requests two keyed digests are remembered, of eight bytes each: of the exact
request, and of its words in any order and case. When a digest comes again, the gap says for
how long an answer would have had to be kept. Prompts are in memory for a second, in Redis
never; digests are keyed by organization, so that nobody can try texts on them.

In Redis: ``caching.seen:<organization>`` (digests by when they were last seen, a day, at
most ``MOST_SEEN``) and ``caching.day:<organization>:<day>`` (sums, ``DAYS`` days). Requests
are chosen by the end of their prompt, so that a repeat is in the sample if the first one
was; busier organizations are sampled more thinly and counted with more weight.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import math
import re
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterable

import msgspec
from django.conf import settings
from redis.exceptions import RedisError

from billing.pricebook import Pricebook
from billing.usage import UsageReport
from inference import wire
from inference.likeness import must_agree
from inference.prefixes import PrefixIndex, chain
from inference.response_cache import is_cacheable
from inference.wire import Sampling
from tenants.redis_link import Part, RedisLink, Script

log = logging.getLogger(__name__)

EVERY_S = 1.0
# Some 50 µs each: what a busy gateway spends on it is a hundredth of a core.
MOST_A_TURN = 200
# For how long an answer would be kept, in hours.
WINDOWS_H = (1, 4, 24)
DAYS = 8
MOST_SEEN = 40_000
# Sampled observations a second of one organization at one gateway, so that a day of several
# gateways' digests fits: 17,000 of each kind.
_BUDGET_PER_S = 0.2
_HIGHEST_LEVEL = 16
# Weight of the newest second in an organization's rate: most of a minute.
_NEWEST = 0.02
# Tokens at a prompt's end that choose the sample. Its very end is the template's.
_END_TOKENS = 24
MOST_CHARACTERS = 4_000
MOST_BLOCKS = 20_000
_WORDS = re.compile(r"\w+")
_UNAVAILABLE = (RedisError, OSError, TimeoutError)

# Key: digests by when they were last seen. Arguments: now, most, digests. Seconds since each
# was last seen, -1 for never; one that comes twice here is a repeat of itself.
_SEE = Script(
    """
local now, gaps = tonumber(ARGV[1]), {}
for i = 3, #ARGV do
    local seen = redis.call('ZSCORE', KEYS[1], ARGV[i])
    gaps[#gaps + 1] = seen and math.max(0, math.floor(now - seen)) or -1
    redis.call('ZADD', KEYS[1], now, ARGV[i])
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - 86400)
local over = redis.call('ZCARD', KEYS[1]) - tonumber(ARGV[2])
if over > 0 then redis.call('ZREMRANGEBYRANK', KEYS[1], 0, over - 1) end
redis.call('EXPIRE', KEYS[1], 86400)
return gaps
"""
)
# Key: a day's sums. Arguments: seconds to keep it, then names and what to add to each.
_ADD = Script(
    """
for i = 2, #ARGV, 2 do redis.call('HINCRBY', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('EXPIRE', KEYS[1], ARGV[1])
"""
)


def day_key(organization: int, unix_s: float) -> str:
    return f"caching.day:{organization}:{time.strftime('%Y%m%d', time.gmtime(unix_s))}"


class Seen(msgspec.Struct, frozen=True):
    """One completed request, for a second."""

    report: UsageReport
    version: int
    prompts: list[list[int]]
    sampling: Sampling
    n: int
    text: str


class CacheAnalysis:
    """One gateway's; ``run`` is a task beside the requests."""

    def __init__(self, link: RedisLink, pricebook: Pricebook):
        self._link = link
        self._pricebook = pricebook
        self.is_on = settings.CACHE_ANALYSIS
        self._waiting: deque[tuple[Seen, int]] = deque(maxlen=MOST_A_TURN)
        self._counts: dict[int, int] = {}
        self._rates: dict[int, float] = {}
        self._masks: dict[int, int] = {}
        self._blocks = PrefixIndex(MOST_BLOCKS)

    def note(
        self,
        report: UsageReport,
        version: int,
        prompts: list[list[int]],
        sampling: Sampling,
        n: int,
        text: str,
    ) -> None:
        """On the token path, at a request's end: a count, and for the sampled an append."""
        organization = report.organization
        self._counts[organization] = self._counts.get(organization, 0) + 1
        mask = self._masks.get(organization, 0)
        if mask and hash((len(prompts[0]), *prompts[0][-_END_TOKENS:])) & mask:
            return
        self._waiting.append((Seen(report, version, prompts, sampling, n, text), mask + 1))

    async def run(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                await self.flush()
            except _UNAVAILABLE as error:
                log.warning("cache_analysis.unwritten", extra={"error": repr(error)})

    async def flush(self) -> None:
        """Count what was noted since; raises RedisError, and then it is forgotten."""
        self._choose_masks()
        noted = defaultdict(list)
        while self._waiting:
            seen, weight = self._waiting.popleft()
            noted[seen.report.organization].append((seen, weight))
        for organization, observations in noted.items():
            await self._count(organization, observations)
            await asyncio.sleep(0)

    def _choose_masks(self) -> None:
        """Sample every 2^level-th request of an organization, by its rate of late."""
        counts, self._counts = self._counts, {}
        for organization in {*counts, *self._rates}:
            rate = self._rates.get(organization, 0.0)
            rate += _NEWEST * (counts.get(organization, 0) / EVERY_S - rate)
            level = math.ceil(math.log2(max(1.0, rate / _BUDGET_PER_S)))
            self._rates[organization] = rate
            self._masks[organization] = (1 << min(level, _HIGHEST_LEVEL)) - 1
            if rate < 1e-4:
                del self._rates[organization], self._masks[organization]

    async def _count(self, organization: int, observations: list[tuple[Seen, int]]) -> None:
        now = time.time()
        key = analysis_key(organization)
        digests: list[Part] = []
        for seen, _ in observations:
            digests += digests_of(seen, key)
        seen_key = f"caching.seen:{organization}"
        gaps = await self._link.run_script(_SEE, [seen_key], [now, MOST_SEEN, *digests])
        sums: Counter[str] = Counter()
        for index, (seen, weight) in enumerate(observations):
            exact_gap, alike_gap = gaps[2 * index : 2 * index + 2]
            found = self._sums(seen, exact_gap, alike_gap)
            sums.update({name: weight * value for name, value in found.items()})
        added: list[Part] = [
            part for name, value in sums.items() if value for part in (name, value)
        ]
        await self._link.run_script(_ADD, [day_key(organization, now)], [DAYS * 86_400, *added])

    def _sums(self, seen: Seen, exact_gap: int, alike_gap: int) -> dict[str, int]:
        report = seen.report
        sums = {
            "requests": 1,
            "hits": int(report.cache_hit),
            "fixed": int(is_cacheable(seen.sampling)),
            "prompt_tokens": report.prompt_tokens,
            "completion_tokens": report.completion_tokens,
            "cached_tokens": 0 if report.cache_hit else report.cached_tokens,
            "known_tokens": self._known_tokens(seen),
            "cost_micros": self._pricebook.cost_micros(report),
        }
        if not report.cache_hit:  # what was a hit is saved already
            if is_cacheable(seen.sampling):
                sums |= self._saved("exact", report, exact_gap)
            if exact_gap < 0:
                sums |= self._saved("alike", report, alike_gap)
        return sums

    def _saved(self, kind: str, report: UsageReport, gap_s: int) -> dict[str, int]:
        """For each window that reaches back to the last time: what a hit would have saved."""
        if gap_s < 0:
            return {}
        as_hit = msgspec.structs.replace(report, cache_hit=True)
        micros = self._pricebook.cost_micros(report) - self._pricebook.cost_micros(as_hit)
        sums = {}
        for hours in WINDOWS_H:
            if gap_s <= hours * 3600:
                sums[f"{kind}_{hours}h"] = 1
                sums[f"{kind}_{hours}h_tokens"] = report.completion_tokens
                sums[f"{kind}_{hours}h_micros"] = max(0, micros)
        return sums

    def _known_tokens(self, seen: Seen) -> int:
        """Of the prompts, how many tokens began one that this gateway saw before."""
        total = 0
        for prompt in seen.prompts:
            blocks = chain(seen.report.organization, seen.version, prompt)
            total += self._blocks.find(blocks)[1]
            self._blocks.remember(blocks, "seen")
        return total


def analysis_key(organization: int) -> bytes:
    """Keys an organization's digests: equal texts of two organizations have nothing in common."""
    purpose = b"cache-analysis:%d" % organization
    return hmac.digest(settings.CACHE_SALT_SECRET.encode(), purpose, "sha256")


def digests_of(seen: Seen, key: bytes) -> Iterable[bytes]:
    """Of the request as it is; and of its words, whatever their order, case and number."""
    sampling = seen.sampling
    exact = wire.encode((seen.version, seen.prompts, sampling, seen.n))
    text = seen.text[:MOST_CHARACTERS]
    words = sorted({word.lower() for word in _WORDS.findall(text)})
    # As the semantic cache: all parameters equal but the longest length, which may follow
    # from the prompt's.
    alike = wire.encode(
        (seen.version, words, must_agree(text), msgspec.structs.replace(sampling, max_tokens=1))
    )
    for kind, content in ((b"e", exact), (b"a", alike)):
        yield kind + hashlib.blake2b(content, key=key, digest_size=8).digest()
