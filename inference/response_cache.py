"""Exact answers to deterministic requests, kept for one organization only.

The key is a hash over organization, version, prompt ids and sampling; the value
names its organization too and is checked when read, so that neither a collision
nor a mixed-up connection can hand over another tenant's text.

Of identical requests under way one runs, and the others take its answer: in a
gateway they wait for its future, between gateways for a short lease in Redis.
Whoever leads and fails leaves the lead to the next.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
import time
from dataclasses import dataclass

import msgspec
from redis.exceptions import RedisError

from inference import metrics, wire
from inference.wire import MessagePart, Sampling
from tenants.redis_link import RedisLink, Script

log = logging.getLogger(__name__)

# An answer larger than this is not worth its memory.
MOST_BYTES = 256 * 1024
# The one before it began earlier and would end earlier than a run of one's own, mostly.
FOLLOW_S = 60.0
LEASE_MS = 30_000
POLL_S = 0.05
_UNAVAILABLE = (RedisError, OSError, TimeoutError)

# Keys: answer, what is void, lease. Arguments: who asks, lease in ms.
_LOOK = Script(
    """
local answer = redis.call('GET', KEYS[1])
if answer then return {answer, redis.call('GET', KEYS[2]) or '0', 0} end
local leased = redis.call('SET', KEYS[3], ARGV[1], 'NX', 'PX', ARGV[2])
return {'', '0', leased and 1 or 0}
"""
)
_GIVE_UP = Script(
    """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
"""
)


class CachedChoice(msgspec.Struct, frozen=True, array_like=True):
    text: str
    tokens: int
    finish_reason: str
    message: MessagePart | None = None  # what was found beside the text
    stop_reason: int | str | None = None


class CachedAnswer(msgspec.Struct, frozen=True, array_like=True):
    organization: int
    source_request: str
    created_at: float  # when its run began: what is void from a later moment on is void
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


def void_key(organization: int) -> str:
    """Unix seconds: answers whose run began before are void. Outlives every answer."""
    return f"answers.void:{organization}"


@dataclass(slots=True)
class Turn:
    """What a look-up gave: an answer, or the lead, or (neither) a run of one's own."""

    answer: CachedAnswer | None = None
    is_leader: bool = False


class ResponseCache:
    """A cache that does not answer is a miss, never an error."""

    def __init__(self, link: RedisLink):
        self._link = link
        self._me = secrets.token_hex(8)
        self._leaders: dict[str, asyncio.Future[CachedAnswer | None]] = {}

    async def get(
        self, key: str, organization: int, max_age_s: int | None = None
    ) -> CachedAnswer | None:
        try:
            found = await self._link.call("MGET", key, void_key(organization))
        except _UNAVAILABLE as error:
            log.warning("response_cache.unreadable", extra={"error": repr(error)})
            found = [None, None]
        answer = valid_answer(found[0], found[1], organization, max_age_s)
        metrics.CACHE.labels("hit" if answer else "miss").inc()
        return answer

    async def get_or_lead(self, key: str, organization: int, max_age_s: int | None = None) -> Turn:
        """The answer, or the lead: the leader must call ``put`` or ``give_up``.

        Waits while another leads, at most ``FOLLOW_S``; then everyone runs alone.
        """
        deadline = time.monotonic() + FOLLOW_S
        while (leader := self._leaders.get(key)) is not None:
            try:
                async with asyncio.timeout_at(_loop_time(deadline)):
                    answer = await asyncio.shield(leader)
            except TimeoutError:
                return Turn()
            if answer is not None:
                metrics.CACHE.labels("shared").inc()
                return Turn(answer)
        self._leaders[key] = asyncio.get_running_loop().create_future()
        try:
            answer = await self._from_elsewhere(key, organization, max_age_s, deadline)
        except BaseException:
            self._end_lead(key, None)
            raise
        metrics.CACHE.labels("hit" if answer else "miss").inc()
        if answer is not None:
            self._end_lead(key, answer)
        return Turn(answer, is_leader=answer is None)

    async def _from_elsewhere(
        self, key: str, organization: int, max_age_s: int | None, deadline: float
    ) -> CachedAnswer | None:
        """What Redis has, or what another gateway's leader will have put there; None to lead."""
        keys = [key, void_key(organization), _lease_key(key)]
        while True:
            try:
                stored, void, is_mine = await self._link.run_script(
                    _LOOK, keys, [self._me, LEASE_MS]
                )
            except _UNAVAILABLE as error:
                log.warning("response_cache.unreadable", extra={"error": repr(error)})
                return None
            answer = valid_answer(stored or None, void, organization, max_age_s)
            if answer is not None or stored or is_mine or time.monotonic() > deadline:
                return answer
            await asyncio.sleep(POLL_S)

    async def put(self, key: str, answer: CachedAnswer, ttl_s: int) -> None:
        self._end_lead(key, answer)
        content = wire.encode(answer)
        try:
            if len(content) <= MOST_BYTES:
                await self._link.call("SET", key, content, "EX", ttl_s)
            await self._link.run_script(_GIVE_UP, [_lease_key(key)], [self._me])
        except _UNAVAILABLE as error:
            log.warning("response_cache.unwritable", extra={"error": repr(error)})

    async def give_up(self, key: str) -> None:
        """The leader has no answer: whoever waits runs now."""
        self._end_lead(key, None)
        try:
            await self._link.run_script(_GIVE_UP, [_lease_key(key)], [self._me])
        except _UNAVAILABLE as error:
            log.warning("response_cache.lease_left", extra={"error": repr(error)})

    def _end_lead(self, key: str, answer: CachedAnswer | None) -> None:
        leader = self._leaders.pop(key, None)
        if leader is not None and not leader.done():
            leader.set_result(answer)


def _lease_key(key: str) -> str:
    return f"{key}:lease"


def _loop_time(deadline: float) -> float:
    return asyncio.get_running_loop().time() + deadline - time.monotonic()


def valid_answer(
    stored: bytes | None, void: bytes | None, organization: int, max_age_s: int | None
) -> CachedAnswer | None:
    """The answer, if it is one, is this organization's, and is neither void nor too old."""
    if stored is None:
        return None
    try:
        answer = _decode(stored)
        void_until = None if void is None else float(void)
    except (msgspec.MsgspecError, ValueError) as error:
        log.warning("response_cache.unreadable", extra={"error": repr(error)})
        return None
    if answer.organization != organization:
        log.error("response_cache.foreign_answer", extra={"organization": organization})
        return None
    if void_until is not None and answer.created_at <= void_until:
        return None
    return answer if max_age_s is None or answer.age_s <= max_age_s else None
