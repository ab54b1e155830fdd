"""How many tokens an answer will have, learned for each API key and model.

Charged to token rates when a request is admitted, because nobody knows the length of its
answer; what was really used is put right when it ends. A quantile of what the key got
lately wastes least: a fixed guess is too much for one caller and too little for the next.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
from array import array
from collections.abc import Iterable

import psycopg
from asgiref.sync import sync_to_async
from cachetools import LRUCache
from django.db import Error as DatabaseError
from django.db import connection

from billing.spending import recent_output_tokens
from tenants import scope

log = logging.getLogger(__name__)

# One answer in ten is longer, and its rate is in debt for a moment.
QUANTILE = 0.9
# Without any history: the length of a usual chat answer.
UNKNOWN_TOKENS = 256
# Fewer answers than so say little of their tenth longest.
LEAST_ANSWERS = 20
# An answer counts half as much after so many others: a caller who changes prompts is
# followed within some hundred requests.
HALF_LIFE_ANSWERS = 200
SEED_ANSWERS = 200
# 400 bytes each; the least recently used are learned anew.
HISTORIES = 20_000
MOST_SEEDINGS = 1_000

# Four steps an octave: an estimate is at most a fifth above the quantile.
_STEPS_AN_OCTAVE = 4
_BUCKETS = 18 * _STEPS_AN_OCTAVE + 2  # up to 2^18 tokens, above every context window
_GROWTH = 2 ** (1 / HALF_LIFE_ANSWERS)
_HEAVIEST = 1e30  # of a C float's 3e38


class History:
    """A decaying histogram of answers' lengths. The newest weighs most, in place of decay."""

    __slots__ = ("_answers", "_estimate", "_estimated_at", "_total", "_weight", "_weights")

    def __init__(self) -> None:
        self._weights = array("f", bytes(4 * _BUCKETS))
        self._weight = 1.0
        self._total = 0.0
        self._answers = 0
        self._estimate = 0
        self._estimated_at = 0

    def add(self, tokens: int) -> None:
        self._weight *= _GROWTH
        self._weights[_bucket(tokens)] += self._weight
        self._total += self._weight
        self._answers += 1
        if self._weight > _HEAVIEST:
            self._weights = array("f", (w / _HEAVIEST for w in self._weights))
            self._weight, self._total = self._weight / _HEAVIEST, self._total / _HEAVIEST

    def estimate(self) -> int | None:
        """The quantile in tokens; None while too little is known."""
        if self._answers < LEAST_ANSWERS:
            return None
        if not self._estimated_at or self._answers - self._estimated_at >= 8:
            self._estimate, self._estimated_at = self._quantile(), self._answers
        return self._estimate

    def _quantile(self) -> int:
        wanted, sum_ = QUANTILE * self._total, 0.0
        for bucket, weight in enumerate(self._weights):
            if sum_ + weight >= wanted:
                return _within(bucket, (wanted - sum_) / weight if weight else 1.0)
            sum_ += weight
        return _within(_BUCKETS - 1, 1.0)


def _bucket(tokens: int) -> int:
    if tokens < 1:
        return 0
    return min(_BUCKETS - 1, 1 + math.ceil(_STEPS_AN_OCTAVE * math.log2(tokens)))


def _within(bucket: int, share: float) -> int:
    """The length below which that share of a bucket's answers is, taken as spread evenly."""
    if bucket == 0:
        return 0
    top = 2 ** ((bucket - 1) / _STEPS_AN_OCTAVE)
    bottom = 2 ** ((bucket - 2) / _STEPS_AN_OCTAVE) if bucket > 1 else 0.0
    return math.ceil(bottom + share * (top - bottom) - 1e-9)


class OutputEstimate:
    """``run`` reads the past of keys that are new here, as a task beside the requests."""

    def __init__(self) -> None:
        self._of_key: LRUCache[tuple[int, str], History] = LRUCache(HISTORIES)
        self._of_model: LRUCache[str, History] = LRUCache(HISTORIES)
        self._unread: asyncio.Queue[tuple[int, int, str]] = asyncio.Queue(MOST_SEEDINGS)

    def tokens(self, organization: int, api_key: int, model: str) -> int | None:
        """What an answer to this key will likely have at most; None when nothing is known.

        A key that is new here is answered by what all keys got of the model.
        """
        history = self._of_key.get((api_key, model))
        if history is None:
            self._of_key[api_key, model] = History()
            if not self._unread.full():  # more new keys than one can read: they learn
                self._unread.put_nowait((organization, api_key, model))
            estimate = None
        else:
            estimate = history.estimate()
        if estimate is None and (of_model := self._of_model.get(model)) is not None:
            return of_model.estimate()
        return estimate

    def learn(self, api_key: int, model: str, tokens: int) -> None:
        """One more answer of so many tokens."""
        for history in self._histories(api_key, model):
            history.add(tokens)

    async def run(self) -> None:
        while True:
            organization, api_key, model = await self._unread.get()
            try:
                answers = await sync_to_async(_read_past, thread_sensitive=False)(
                    organization, api_key, model
                )
            except (DatabaseError, psycopg.Error, OSError) as error:
                log.warning("output_estimate.unread", extra={"error": repr(error)})
                continue
            self.learn_past(api_key, model, answers)

    def learn_past(self, api_key: int, model: str, answers: Iterable[int]) -> None:
        """Answers from before this process, oldest first."""
        for tokens in itertools.islice(answers, SEED_ANSWERS):
            self.learn(api_key, model, tokens)

    def _histories(self, api_key: int, model: str) -> tuple[History, History]:
        of_key = self._of_key.get((api_key, model))
        if of_key is None:
            of_key = self._of_key[api_key, model] = History()
        of_model = self._of_model.get(model)
        if of_model is None:
            of_model = self._of_model[model] = History()
        return of_key, of_model


def _read_past(organization: int, api_key: int, model: str) -> list[int]:
    try:
        with scope.for_organization(organization):
            return recent_output_tokens(api_key, model, SEED_ANSWERS)
    finally:
        connection.close()
