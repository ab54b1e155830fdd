"""Answers to questions that mean the same, for organizations that turned it on.

Two requests are compared only if everything but the last user message is equal to the
byte (``Question.scope``), and of that message its numbers and whether it denies
(``inference.likeness``). What is left is embedded by the platform's own embedding model
and compared with what the organization asked before; nearest by a sketch of a bit for
each dimension, then exactly. Questions are not kept, only their vectors and the answers.

In Redis, each with the organization in its key, and in the answer again:
``semantic:<organization>:<scope>`` (sketches), ``…:<entry>`` (vector and answer),
``semantic.entries:<organization>`` (all of them by expiry, which bounds their number).
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
import time
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
from redis.exceptions import RedisError

from inference import metrics, wire
from inference.circuit import Circuit
from inference.dispatch.sequence import Job
from inference.errors import ContextLengthExceeded, InferenceError, InvalidRequest
from inference.likeness import must_agree, nearest, similarity, sketch_of, vector_of
from inference.models import Model
from inference.response_cache import CachedAnswer, valid_answer, void_key
from tenants.redis_link import RedisLink, Script

if TYPE_CHECKING:
    from inference.dispatch import Dispatcher
    from inference.registry import ModelEntry, Registry, Served

log = logging.getLogger(__name__)

# Chosen on 999 pairs of paraphrases (docs/performance.md, Semantic cache).
DEFAULT_THRESHOLD = 0.95
# A look-up that takes longer is a miss: it must stay small beside what it saves.
LIMIT_S = 0.15
# The embedding goes on for so long, to be there when the answer is to be kept.
EMBED_S = 5.0
# Longer questions are documents: their vectors are of their beginning, or of nothing much.
MOST_CHARACTERS = 1_000
# Of one organization: with its vectors at most 32 MiB.
MOST_ENTRIES = 1_000
MOST_BYTES = 32 * 1024
# How many sketches' entries are compared exactly.
COMPARED = 4
_INDEX_KEPT_S = 2 * 86_400
_UNAVAILABLE = (RedisError, OSError, TimeoutError)

# Keys: sketches, what is void.
_FIND = Script("return {redis.call('HGETALL', KEYS[1]), redis.call('GET', KEYS[2]) or '0'}")
# Keys: sketches, entry, index. Arguments: entry's id, sketch, content, seconds, now, most
# entries, the entry's name in the index, what keys begin with, seconds the index is kept.
_KEEP = Script(
    """
local ttl, now = tonumber(ARGV[4]), tonumber(ARGV[5])
redis.call('SET', KEYS[2], ARGV[3], 'EX', ttl)
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
if redis.call('TTL', KEYS[1]) < ttl then redis.call('EXPIRE', KEYS[1], ttl) end
redis.call('ZADD', KEYS[3], now + ttl, ARGV[7])
redis.call('EXPIRE', KEYS[3], ARGV[9])
local gone = redis.call('ZRANGE', KEYS[3], '-inf', now, 'BYSCORE', 'LIMIT', 0, 50)
local over = redis.call('ZCARD', KEYS[3]) - #gone - tonumber(ARGV[6])
if over > 0 then
    for _, name in ipairs(redis.call('ZRANGE', KEYS[3], #gone, #gone + over - 1)) do
        gone[#gone + 1] = name
    end
end
for _, name in ipairs(gone) do
    local scope, id = string.match(name, '^(.*):(.*)$')
    redis.call('ZREM', KEYS[3], name)
    redis.call('DEL', ARGV[8] .. name)
    redis.call('HDEL', ARGV[8] .. scope, id)
end
"""
)


class Question(msgspec.Struct, frozen=True):
    """What may be answered by the answer to another: ``text`` alike, ``rest`` equal."""

    text: str
    rest: bytes  # everything else of the request that its answer depends on


@dataclass(frozen=True, slots=True)
class Asker:
    """On whose behalf, and where their text may go."""

    organization: int
    weight: int
    region: str
    must_stay_in_region: bool


@dataclass(frozen=True, slots=True)
class Match:
    answer: CachedAnswer
    similarity: float


class _Entry(msgspec.Struct, frozen=True, array_like=True):
    vector: bytes
    answer: bytes  # a CachedAnswer's encoding


_decode = msgspec.msgpack.Decoder(_Entry).decode


def fits(text: str) -> bool:
    """Whether a question is worth comparing at all."""
    return 0 < len(text.strip()) <= MOST_CHARACTERS


class SemanticCache:
    """One gateway's. What fails or is late is a miss, never an error."""

    def __init__(self, link: RedisLink, dispatcher: Dispatcher, registry: Registry):
        self.link = link
        self._dispatcher = dispatcher
        self._registry = registry
        # Of the embedding model: when it is slow or away, nobody waits for it for a while.
        self.circuit = Circuit()

    def inquire(self, question: Question, version: int, asker: Asker) -> Inquiry | None:
        """About a request that this version is to answer; None where nothing can embed."""
        entry = self._embedding_model()
        if entry is None:
            return None
        candidates = tuple(self._registry.snapshot.resolve(entry, asker.organization))
        if not candidates:
            return None
        content = (question.rest, must_agree(question.text), version, candidates[0].version)
        scope = hashlib.sha256(wire.encode(content)).hexdigest()[:40]
        return Inquiry(self, question.text, scope, asker, candidates)

    def _embedding_model(self) -> ModelEntry | None:
        """The first by name, so that every gateway takes the same."""
        models = self._registry.snapshot.models.values()
        found = [entry for entry in models if entry.kind == Model.Kind.EMBEDDING]
        return min(found, key=lambda entry: entry.name, default=None)

    async def embed(self, text: str, asker: Asker, candidates: tuple[Served, ...]) -> array[float]:
        """Raises InferenceError (ContextLengthExceeded for a text that is longer than the model
        reads: its vector would be of its beginning), and TimeoutError after ``EMBED_S``."""
        served = candidates[0]
        ids = await served.renderer.encode_text(
            text, scope=asker.organization, limit_tokens=served.max_context_tokens
        )
        if len(ids) > served.max_context_tokens:
            raise ContextLengthExceeded("The question is longer than the embedding model reads.")
        job = Job(
            # Not the request's own id: what a worker notes of it must not be billed to it.
            request_id=f"semantic-{secrets.token_hex(12)}/0.0",
            organization=asker.organization,
            weight=asker.weight,
            prompt_ids=ids,
            sampling=None,
            cache_salt="",
            candidates=candidates,
            region=asker.region,
            must_stay_in_region=asker.must_stay_in_region,
        )
        sequence = self._dispatcher.submit(job)
        try:
            async with asyncio.timeout(EMBED_S):
                output = await sequence.next_output()
        finally:
            self._dispatcher.cancel(sequence)
        return vector_of(output.embedding)


class Inquiry:
    """One question's: ``find`` or ``begin``, then ``keep`` or ``drop``, once."""

    def __init__(
        self,
        cache: SemanticCache,
        text: str,
        scope: str,
        asker: Asker,
        candidates: tuple[Served, ...],
    ):
        self._cache = cache
        self._text = text
        self._asker = asker
        self._candidates = candidates
        self._scope = scope
        self._prefix = f"semantic:{asker.organization}:"
        self._embedding: asyncio.Task[array[float]] | None = None

    async def find(self, threshold: float, max_age_s: int | None = None) -> Match | None:
        """The most similar question's answer, if any is similar enough, within ``LIMIT_S``."""
        circuit, now = self._cache.circuit, time.monotonic()
        if not circuit.is_closed:
            if not circuit.wants_trial(now):
                metrics.SEMANTIC_CACHE.labels("resting").inc()
                return None
            circuit.try_once(now)
        try:
            async with asyncio.timeout(LIMIT_S):
                vector = await asyncio.shield(self.begin())
                match = await self._best(vector, threshold, max_age_s)
        except TimeoutError:
            circuit.fail(time.monotonic())
            result, match = "late", None
        except (ContextLengthExceeded, InvalidRequest):  # too long for it: no fault of the model
            result, match = "unfit", None
        except (*_UNAVAILABLE, InferenceError, ValueError) as error:
            circuit.fail(time.monotonic())
            log.warning("semantic_cache.unavailable", extra={"error": repr(error)})
            result, match = "unavailable", None
        else:
            circuit.succeed()
            result = "hit" if match else "miss"
        metrics.SEMANTIC_CACHE.labels(result).inc()
        metrics.SEMANTIC_CACHE_LOOKUP.observe(time.monotonic() - now)
        return match

    def begin(self) -> asyncio.Task[array[float]]:
        """Have the question embedded, whoever waits for it."""
        if self._embedding is None:
            work = self._cache.embed(self._text, self._asker, self._candidates)
            self._embedding = asyncio.create_task(work)
            self._embedding.add_done_callback(_mark_seen)
        return self._embedding

    async def _best(
        self, vector: array[float], threshold: float, max_age_s: int | None
    ) -> Match | None:
        organization, link = self._asker.organization, self._cache.link
        keys = [self._prefix + self._scope, void_key(organization)]
        found, void = await link.run_script(_FIND, keys, [])
        names, sketches = found[::2], found[1::2]
        if not names:
            return None
        order = nearest(sketch_of(vector), sketches, COMPARED)
        entries = await link.call("MGET", *(self._key_of(names[i].decode()) for i in order))
        matches = []
        for stored in filter(None, entries):
            match = _compare(stored, void, vector, organization, max_age_s)
            if match is not None and match.similarity >= threshold:
                matches.append(match)
        return max(matches, key=lambda match: match.similarity, default=None)

    def _key_of(self, name: str) -> str:
        return f"{self._prefix}{self._scope}:{name}"

    async def keep(self, answer: CachedAnswer, ttl_s: int) -> None:
        """For others; not if its question's vector is not here by now, or it is too large."""
        task, self._embedding = self._embedding, None
        content = wire.encode(answer)
        if task is None or not _has_result(task) or len(content) > MOST_BYTES or ttl_s < 1:
            if task is not None:
                task.cancel()
            return
        vector, name = task.result(), secrets.token_hex(6)
        keys = [
            self._prefix + self._scope,
            self._key_of(name),
            f"semantic.entries:{self._asker.organization}",
        ]
        entry = wire.encode(_Entry(vector.tobytes(), content))
        try:
            await self._cache.link.run_script(
                _KEEP,
                keys,
                [
                    name, sketch_of(vector), entry, ttl_s, int(time.time()), MOST_ENTRIES,
                    f"{self._scope}:{name}", self._prefix, _INDEX_KEPT_S,
                ],
            )  # fmt: skip
        except _UNAVAILABLE as error:
            log.warning("semantic_cache.unwritable", extra={"error": repr(error)})

    def drop(self) -> None:
        """The run gave nothing that others could have."""
        if self._embedding is not None:
            self._embedding.cancel()
            self._embedding = None


def _compare(
    stored: bytes, void: bytes, vector: array[float], organization: int, max_age_s: int | None
) -> Match | None:
    try:
        entry = _decode(stored)
        likeness = similarity(vector, vector_of(entry.vector))
    except (msgspec.MsgspecError, ValueError) as error:
        log.warning("semantic_cache.unreadable", extra={"error": repr(error)})
        return None
    answer = valid_answer(entry.answer, void, organization, max_age_s)
    return None if answer is None else Match(answer, likeness)


def _has_result(task: asyncio.Task[array[float]]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None


def _mark_seen(task: asyncio.Task[array[float]]) -> None:
    """Nobody need wait for it; asyncio would log that its exception was not looked at."""
    if not task.cancelled():
        task.exception()
