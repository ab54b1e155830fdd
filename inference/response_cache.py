"""Exact answers to deterministic requests, kept for one organization only.

The key is a hash over organization, version, prompt ids and sampling; the value
names its organization too and is checked when read, so that neither a collision
nor a mixed-up connection can hand over another tenant's text.
"""

from __future__ import annotations

import hashlib
import logging
import time

import msgspec
from redis.exceptions import RedisError

from inference import metrics, wire
from inference.wire import Sampling
from tenants.redis_link import RedisLink

log = logging.getLogger(__name__)

# An answer larger than this is not worth its memory.
MOST_BYTES = 256 * 1024


class CachedChoice(msgspec.Struct, frozen=True, array_like=True):
    text: str
    tokens: int
    finish_reason: str


class CachedAnswer(msgspec.Struct, frozen=True, array_like=True):
    organization: int
    source_request: str
    created_at: float
    choices: list[CachedChoice]

    @property
    def age_s(self) -> int:
        return max(0, int(time.time() - self.created_at))


_decode = msgspec.msgpack.Decoder(CachedAnswer).decode


def is_cacheable(sampling: Sampling) -> bool:
    """Whether the same request must give the same answer (and needs no logprobs)."""
    return (sampling.temperature == 0.0 or sampling.seed is not None) and sampling.logprobs is None


def key_of(
    organization: int,
    version: int,
    prompts: list[list[int]],
    sampling: Sampling,
    n: int,
) -> str:
    content = wire.encode((organization, version, prompts, sampling, n))
    return f"answer:{organization}:{hashlib.sha256(content).hexdigest()}"


class ResponseCache:
    """A cache that does not answer is a miss, never an error."""

    def __init__(self, link: RedisLink):
        self._link = link

    async def get(self, key: str, organization: int) -> CachedAnswer | None:
        try:
            stored: bytes | None = await self._link.call("GET", key)
            answer = _decode(stored) if stored is not None else None
        except (RedisError, OSError, TimeoutError, msgspec.MsgspecError) as error:
            log.warning("response_cache.unreadable", extra={"error": repr(error)})
            answer = None
        if answer is not None and answer.organization != organization:
            log.error("response_cache.foreign_answer", extra={"organization": organization})
            answer = None
        metrics.CACHE.labels("hit" if answer else "miss").inc()
        return answer

    async def put(self, key: str, answer: CachedAnswer, ttl_s: int) -> None:
        content = wire.encode(answer)
        if len(content) > MOST_BYTES:
            return
        try:
            await self._link.call("SET", key, content, "EX", ttl_s)
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("response_cache.unwritable", extra={"error": repr(error)})
