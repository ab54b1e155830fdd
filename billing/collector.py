"""Carries usage reports from the Redis stream to the ledger.

A consumer group remembers what was handed out; an entry is acknowledged and
deleted only after its transaction committed. Dying in between means that the
entry comes again, and ``record_usage`` counts a request once. So this may run
any number of times at once, and losing a run loses nothing.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec
from django.conf import settings
from django.db import connection
from redis import Redis, ResponseError
from redis.backoff import ExponentialWithJitterBackoff
from redis.retry import Retry

from billing import metrics
from billing.actions import Rejection, record_usage, reject_reports
from billing.live import Watchers
from billing.usage import FIELD, STREAM, UsageReport, decode_report

logger = logging.getLogger(__name__)

GROUP = "ledger"
# One name for every collector: what a dead one left pending is claimed by its age, and
# the group does not collect the names of processes that are gone.
CONSUMER = "collector"
# Some milliseconds of a batch do not depend on its size; larger ones gain nothing, and hold
# locks for longer than the second within which the next is due.
BATCH = 4_000
MAX_REPORTS = 20_000
MAX_S = 5.0
# Far above the time of one batch, so that nobody claims what another is recording.
CLAIM_AFTER_MS = 30_000

Entry = tuple[bytes, dict[bytes, bytes]]


@dataclass(frozen=True)
class Collected:
    """What one run did; ``waiting`` is the stream's length afterwards."""

    reports: int
    recorded: int
    undecodable: int
    waiting: int


def collect_usage(
    redis: Redis | None = None,
    *,
    max_reports: int = MAX_REPORTS,
    max_s: float = MAX_S,
    claim_after_ms: int = CLAIM_AFTER_MS,
    stopping: threading.Event | None = None,
) -> Collected:
    """Record what waits in the stream, up to ``max_reports`` or about ``max_s`` seconds.

    Once ``stopping`` is set no further batch is taken.

    Raises ``redis.RedisError`` or ``django.db.DatabaseError`` when either store does not
    answer; whatever was not committed stays in the stream.
    """
    redis = redis or get_redis(settings.REDIS_URL)
    _check_database()
    deadline = time.monotonic() + max_s
    reports = recorded = undecodable = 0
    watchers = Watchers(redis)
    for entries in _batches(redis, claim_after_ms):
        good, broken = _decode(entries)
        if broken:
            reject_reports(broken)
        recorded += record_usage(good)
        _forget(redis, entries)
        watchers.tell(report.organization for report in good)
        reports += len(entries)
        undecodable += len(broken)
        is_enough = reports + BATCH > max_reports or time.monotonic() >= deadline
        if is_enough or (stopping is not None and stopping.is_set()):
            break
    watchers.tell_rest()
    return Collected(reports, recorded, undecodable, _measure(redis))


def wait_for_reports(redis: Redis, most_s: float) -> bool:
    """Whether the stream holds any, at once if so; takes nothing. Raises ``redis.RedisError``."""
    return bool(redis.xread({STREAM: "0-0"}, count=1, block=int(most_s * 1000)))


@lru_cache(maxsize=4)
def get_redis(url: str, wait_s: float = 0.0) -> Redis:
    """This process's client: every command has a timeout, two capped retries with jitter.

    ``wait_s`` is the longest that one of its commands waits in Redis for something to come.
    """
    return Redis.from_url(
        url,
        socket_timeout=settings.REDIS_TIMEOUT_S + wait_s,
        socket_connect_timeout=settings.REDIS_TIMEOUT_S,
        retry=Retry(ExponentialWithJitterBackoff(base=0.05, cap=0.5), retries=2),
    )


def _check_database() -> None:
    """Raise before anything is taken from the stream: untouched entries need no claiming."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def _batches(redis: Redis, claim_after_ms: int) -> Iterator[Sequence[Entry]]:
    """Entries that somebody took and did not finish, then new ones, until a batch is short.

    A short batch means that we have caught up. Going on while anything is new would chase
    the newest request with a commit for every few rows; the next run comes in a second.
    """
    cursor: bytes | str = "0-0"
    while True:
        cursor, entries = _claim(redis, cursor, claim_after_ms)
        if entries:
            yield entries
        if cursor in (b"0-0", "0-0"):
            break
    entries = _read_new(redis)
    while entries:
        yield entries
        entries = _read_new(redis) if len(entries) == BATCH else []


def _claim(redis: Redis, cursor: bytes | str, idle_ms: int) -> tuple[bytes | str, list[Entry]]:
    try:
        answer: Any = redis.xautoclaim(
            STREAM, GROUP, CONSUMER, idle_ms, start_id=cursor, count=BATCH
        )
    except ResponseError as error:
        _create_group(redis, error)
        return "0-0", []
    return answer[0], answer[1]


def _read_new(redis: Redis) -> list[Entry]:
    def read() -> Any:
        return redis.xreadgroup(GROUP, CONSUMER, {STREAM: ">"}, count=BATCH)

    try:
        answer = read()
    except ResponseError as error:
        # Redis lost its data since the claim a moment ago.
        _create_group(redis, error)
        answer = read()
    return answer[0][1] if answer else []


def _create_group(redis: Redis, error: ResponseError) -> None:
    """The group's first use, or Redis restarted without its data: begin at the beginning."""
    if not str(error).startswith("NOGROUP"):
        raise error
    logger.warning("consumer group created", extra={"stream": STREAM, "group": GROUP})
    try:
        redis.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
    except ResponseError as busy:
        if not str(busy).startswith("BUSYGROUP"):  # another collector was faster
            raise


def _decode(entries: Sequence[Entry]) -> tuple[list[UsageReport], list[Rejection]]:
    good: list[UsageReport] = []
    broken: list[Rejection] = []
    for _, fields in entries:
        raw = fields.get(FIELD)
        if raw is None:
            broken.append(Rejection(msgspec.msgpack.encode(fields), "entry without a report"))
            continue
        try:
            good.append(decode_report(raw))
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            broken.append(Rejection(raw, f"undecodable: {error}"))
    return good, broken


def _forget(redis: Redis, entries: Sequence[Entry]) -> None:
    """Acknowledge and delete, together; call only after the commit."""
    ids = [entry_id for entry_id, _ in entries]
    with redis.pipeline(transaction=True) as pipe:
        pipe.xack(STREAM, GROUP, *ids)
        pipe.xdel(STREAM, *ids)
        pipe.execute()


def _measure(redis: Redis) -> int:
    with redis.pipeline(transaction=False) as pipe:
        pipe.xlen(STREAM)
        pipe.xrange(STREAM, count=1)
        pipe.time()
        length, oldest, (now_s, _) = pipe.execute()
    written_ms = int(oldest[0][0].partition(b"-")[0]) if oldest else now_s * 1000
    metrics.STREAM_LENGTH.set(length)
    metrics.STREAM_AGE_S.set(max(0.0, now_s - written_ms / 1000))
    return int(length)
