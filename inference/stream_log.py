"""The log of one answer's events: written by the gateway that makes it, read by any.

Resumable streams, answers kept for an ``Idempotency-Key`` and background responses all use
this one log. Events are numbered from 1 in the order in which they were made, and an
event's number never changes: whoever has heard event 7 asks for what comes after 7.

A log has one writer, which renews its lease every second. A log whose lease has run out
while it is open is declared ``lost`` by whoever notices first, in the script that notices;
from there on the writer is refused, so that no event follows the end that a reader was told.

The log of a background response is ``durable``: a row in PostgreSQL says who makes it, so it
has no lease and is never lost. Its writers follow one another by their fencing tokens (``take``),
and whoever finds that the row has ended closes it (``finish``).

Redis keys: ``log:<id>`` (the events, a stream whose entries are batches of them, each under
the number of its last), ``log:<id>:meta`` (whose it is, its state), ``logs.leases``, and for
each organization what its logs hold: ``logs.kept:<organization>``, ``logs.sizes:<organization>``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any

import msgspec
from django.conf import settings
from redis.exceptions import RedisError

from inference.errors import InferenceError
from tenants.redis_link import Part, RedisLink, Script

log = logging.getLogger(__name__)

# Four times the longest answer of one choice that a context of 32,768 tokens allows, at
# 250 bytes a chunk; a log that grows beyond either is given up, the request is not.
MOST_BYTES = 16 * 1024 * 1024
MOST_EVENTS = 131_072
# What a log costs beside its events: two keys, three places in sets.
OVERHEAD_BYTES = 512
# A gateway that stands still for longer has lost its logs; one that renews is late by 1 s.
LEASE_MS = 6_000
RENEW_S = 1.0
# How long a finished stream can be read again.
KEPT_S = 900
# Of a log on another gateway; between two looks its reader waits.
POLL_S = 0.1
MOST_READ = 256

UNAVAILABLE = (RedisError, OSError, TimeoutError)

# States of a log. A key whose log is FAILED or LOST may be used again.
OPEN = "open"
DONE = "done"
FAILED = "failed"  # a fault of the platform ended it; its last event says so
LOST = "lost"  # its gateway died
FULL = "full"  # larger than a log may be; its events are gone
GONE = "gone"  # there is no such log (any more)
TAKEN = "taken"  # what a writer hears whose successor has come

_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""
# What is left of a log whose lease ran out; ``leases`` and ``meta`` are keys.
_STATE = """
local function state_of(id, meta)
  local state = redis.call('HGET', meta, 'state')
  if state == 'open' then
    local lease = redis.call('ZSCORE', 'logs.leases', id)
    local is_durable = redis.call('HGET', meta, 'is_durable') == '1'
    if not is_durable and (not lease or tonumber(lease) < now) then
      redis.call('HSET', meta, 'state', 'lost')
      redis.call('ZREM', 'logs.leases', id)
      return 'lost'
    end
  end
  return state
end
"""
# Keys: meta, kept, sizes. Arguments from ``first``: id, lease, time to live (ms), most bytes of
# the organization, bytes of a log without events, then the fields of meta. False if it is full.
_BEGIN = """
local function begin(first)
  local id = ARGV[first]
  for _, old in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], 0, now, 'LIMIT', 0, 100)) do
    local size = redis.call('HGET', KEYS[3], old) or '0'
    redis.call('HINCRBY', KEYS[3], 'total', -size)
    redis.call('HDEL', KEYS[3], old)
    redis.call('ZREM', KEYS[2], old)
  end
  local total = tonumber(redis.call('HGET', KEYS[3], 'total') or '0')
  if total + ARGV[first + 4] > tonumber(ARGV[first + 3]) then return false end
  redis.call('HINCRBY', KEYS[3], 'total', ARGV[first + 4])
  redis.call('HSET', KEYS[3], id, ARGV[first + 4])
  redis.call('ZADD', KEYS[2], now + ARGV[first + 2], id)
  if ARGV[first + 1] ~= '0' then redis.call('ZADD', 'logs.leases', now + ARGV[first + 1], id) end
  redis.call('HSET', KEYS[1], 'state', 'open', unpack(ARGV, first + 5))
  redis.call('PEXPIRE', KEYS[1], ARGV[first + 2])
  return true
end
"""
_OPEN = Script(_NOW + _BEGIN + "return begin(1) and 1 or 0")
# Keys: meta, kept, sizes, claim. Arguments: fingerprint, then as above.
_CLAIM = Script(
    _NOW
    + _STATE
    + _BEGIN
    + """
local claim = redis.call('HMGET', KEYS[4], 'fingerprint', 'log', 'paid')
local paid = claim[3] or '0'
if claim[1] then
  if claim[1] ~= ARGV[1] then return {'reused', '', '0'} end
  local meta = 'log:' .. claim[2] .. ':meta'
  local state = state_of(claim[2], meta)
  if state == 'open' or state == 'done' or state == 'full' then return {state, claim[2], paid} end
  if redis.call('HGET', meta, 'committed') then paid = '1' end
end
if not begin(2) then return {'no room', '', '0'} end
redis.call('HSET', KEYS[4], 'fingerprint', ARGV[1], 'log', ARGV[2], 'paid', paid)
redis.call('PEXPIRE', KEYS[4], ARGV[4])
return {'mine', ARGV[2], paid}
"""
)
# The state of an open log whose writer has the token in ARGV[place]; others' is 'taken'.
_MINE = """
local function mine(place)
  local state = redis.call('HGET', KEYS[1], 'state')
  if not state then return 'gone' end
  local writer = redis.call('HGET', KEYS[1], 'writer')
  if state == 'open' and writer and writer ~= ARGV[place] then return 'taken' end
  return state
end
"""
# Keys: meta, stream, sizes. Arguments: id, number of the last event, events, their bytes, most
# bytes, most events, most bytes of the organization, the writer's token.
_APPEND = Script(
    _MINE
    + """
local state = mine(8)
if state ~= 'open' then return state end
local bytes = redis.call('HINCRBY', KEYS[1], 'bytes', ARGV[4])
local total = redis.call('HINCRBY', KEYS[3], 'total', ARGV[4])
redis.call('HINCRBY', KEYS[3], ARGV[1], ARGV[4])
if bytes > tonumber(ARGV[5]) or tonumber(ARGV[2]) > tonumber(ARGV[6])
    or total > tonumber(ARGV[7]) then
  redis.call('HSET', KEYS[1], 'state', 'full')
  redis.call('DEL', KEYS[2])
  redis.call('ZREM', 'logs.leases', ARGV[1])
  redis.call('HINCRBY', KEYS[3], 'total', -bytes)
  redis.call('HINCRBY', KEYS[3], ARGV[1], -bytes)
  return 'full'
end
redis.call('XADD', KEYS[2], ARGV[2] .. '-0', 'e', ARGV[3])
redis.call('PEXPIRE', KEYS[2], redis.call('PTTL', KEYS[1]))
return 'open'
"""
)
# Keys: meta, stream. Arguments: the next writer's token. The state and the last event's number.
_TAKE = Script(
    """
local state = redis.call('HGET', KEYS[1], 'state')
if state ~= 'open' then return {state or 'gone', 0} end
if tonumber(redis.call('HGET', KEYS[1], 'writer') or '0') >= tonumber(ARGV[1]) then
  return {'taken', 0}
end
redis.call('HSET', KEYS[1], 'writer', ARGV[1])
local newest = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1]
return {'open', newest and tonumber(string.match(newest[1], '^%d+')) or 0}
"""
)
# Keys: meta, stream, kept. Arguments: id, number of the last event, time to live (ms), an event.
# Whether that event is the last of a log that ends with this.
_FINISH = Script(
    _NOW
    + """
if redis.call('HGET', KEYS[1], 'state') ~= 'open' then return 0 end
local newest = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1]
local last = newest and string.match(newest[1], '^%d+') or '0'
if last ~= ARGV[2] then return 0 end
redis.call('XADD', KEYS[2], (last + 1) .. '-0', 'e', ARGV[4])
redis.call('HSET', KEYS[1], 'state', 'done')
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
redis.call('ZADD', KEYS[3], 'XX', now + ARGV[3], ARGV[1])
return 1
"""
)
# Keys: meta, stream, kept. Arguments: id, state, time to live (ms), the writer's token, then
# fields of meta.
_END = Script(
    _NOW
    + _MINE
    + """
local state = mine(4)
if state ~= 'open' then return state end
redis.call('HSET', KEYS[1], 'state', ARGV[2], unpack(ARGV, 5))
redis.call('ZREM', 'logs.leases', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
redis.call('ZADD', KEYS[3], 'XX', now + ARGV[3], ARGV[1])
return ARGV[2]
"""
)
# Keys: meta. Arguments: id.
_COMMIT = Script(
    """
local state = redis.call('HGET', KEYS[1], 'state')
if not state then return 'gone' end
if state == 'open' or state == 'full' then redis.call('HSET', KEYS[1], 'committed', '1') end
return state
"""
)
# Keys: meta. Arguments: id. Whether it had been committed; it never will be from here on.
_FORSAKE = Script(
    """
if redis.call('HGET', KEYS[1], 'committed') then return 1 end
if redis.call('HGET', KEYS[1], 'state') == 'open' then
  redis.call('HSET', KEYS[1], 'state', 'lost')
  redis.call('ZREM', 'logs.leases', ARGV[1])
end
return 0
"""
)
# Keys: meta, stream, reader's mark. Arguments: id, number of the next event, how many entries,
# how long the mark of a reader lasts (ms; 0: none).
_READ = Script(
    _NOW
    + _STATE
    + """
local state = state_of(ARGV[1], KEYS[1])
if not state then return {'gone', {}} end
if ARGV[4] ~= '0' then redis.call('SET', KEYS[3], '1', 'PX', ARGV[4]) end
return {state, redis.call('XRANGE', KEYS[2], ARGV[2] .. '-0', '+', 'COUNT', ARGV[3])}
"""
)
# Keys: meta, stream, kept, sizes. Arguments: id.
_DROP = Script(
    """
local size = redis.call('HGET', KEYS[4], ARGV[1])
if size then redis.call('HINCRBY', KEYS[4], 'total', -size) end
redis.call('HDEL', KEYS[4], ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('ZREM', 'logs.leases', ARGV[1])
redis.call('DEL', KEYS[1], KEYS[2])
"""
)
# Arguments: lease in ms, then ids.
_RENEW = Script(
    _NOW
    + """
for place = 2, #ARGV do redis.call('ZADD', 'logs.leases', 'XX', now + ARGV[1], ARGV[place]) end
"""
)


class LogUnavailable(InferenceError):
    """Redis is away: what needs a log cannot be promised."""

    status = 503
    code = "service_unavailable"
    kind = "server_error"
    retry_after_s = 1.0


class Event(msgspec.Struct, frozen=True, array_like=True):
    data: bytes  # a JSON object: whoever sends it knows by the log's endpoint how to frame it


_encode_events = msgspec.msgpack.Encoder().encode
_decode_events = msgspec.msgpack.Decoder(list[Event]).decode


class Meta(msgspec.Struct, frozen=True):
    """Whose log it is, and what else its readers must know; the caller checks the access."""

    organization: int
    project: int
    api_key: int
    endpoint: str  # the path that was asked
    status: int = 200  # of the answer, once it has ended
    is_stream: bool = True
    kept_s: int = KEPT_S  # after its end
    is_durable: bool = False
    open_s: int = 0  # its longest life before its end; 0: that of the longest request

    def fields(self) -> list[Part]:
        return [
            *("organization", self.organization, "project", self.project),
            *("api_key", self.api_key, "endpoint", self.endpoint),
            *("status", self.status, "is_stream", int(self.is_stream), "kept_s", self.kept_s),
            *("is_durable", int(self.is_durable), "open_s", self.open_s),
        ]


@dataclass(frozen=True, slots=True)
class Claim:
    """What became of a claim: ``mine``, ``reused``, ``no room``, or the state of the log that
    is there. ``is_paid``: an earlier try was billed and its answer lost."""

    outcome: str
    log_id: str
    is_paid: bool


def _meta_key(log_id: str) -> str:
    return f"log:{log_id}:meta"


def _stream_key(log_id: str) -> str:
    return f"log:{log_id}"


def _reader_key(log_id: str) -> str:
    return f"log:{log_id}:reader"


class Writer:
    """Numbers and stores the events of one log. ``append`` never waits: what comes while a
    batch is under way leaves as the next one."""

    def __init__(self, logs: StreamLogs, log_id: str, meta: Meta, *, token: int = 0, last: int = 0):
        self._logs = logs
        self.log_id = log_id
        self.meta = meta
        self.token = token
        self.state = OPEN  # as far as is known; GONE after an error of Redis
        self.last = last
        self._pending: list[Event] = []
        self._flushing: asyncio.Task[None] | None = None

    def append(self, event: Event) -> int:
        """The event's number."""
        self.last += 1
        if self.state == OPEN:
            self._pending.append(event)
            if self._flushing is None:
                self._flushing = asyncio.get_running_loop().create_task(self._flush())
        return self.last

    async def _flush(self) -> None:
        last = self.last - len(self._pending)
        try:
            while self._pending and self.state == OPEN:
                events, self._pending = self._pending, []
                last += len(events)
                self._note(await self._logs.store(self, last, events))
        except UNAVAILABLE as error:
            log.warning("stream_log.broken", extra={"log": self.log_id, "error": repr(error)})
            self._note(GONE)
        finally:
            self._flushing = None

    def _note(self, state: str) -> None:
        self.state = state
        if state != OPEN:
            self._pending.clear()
            self._logs.forget(self)

    async def drain(self) -> str:
        """Wait until all that was appended is stored; the state then."""
        while self._flushing is not None:
            await asyncio.shield(self._flushing)
        return self.state

    async def commit(self) -> str:
        """Say that the answer is going to be billed. The state, in which it may be (OPEN, FULL),
        may not (LOST), or is unknown (GONE)."""
        try:
            return await self._logs.script(_COMMIT, [_meta_key(self.log_id)], [self.log_id])
        except UNAVAILABLE:
            return GONE

    async def end(self, state: str = DONE, status: int = 200, *, is_stream: bool = True) -> str:
        """Store what is left and close the log; the state that it then has. Never raises."""
        if await self.drain() != OPEN:
            return self.state
        fields: list[Part] = ["status", status, "is_stream", int(is_stream)]
        id_, kept_ms = self.log_id, self.meta.kept_s * 1000
        keys = [_meta_key(id_), _stream_key(id_), _kept_key(self.meta.organization)]
        try:
            arguments = [id_, state, kept_ms, self.token, *fields]
            self._note(await self._logs.script(_END, keys, arguments))
        except UNAVAILABLE as error:
            log.warning("stream_log.not_ended", extra={"log": id_, "error": repr(error)})
            self._note(GONE)  # its lease runs out, and readers are told that it is lost
        return self.state


class StreamLogs:
    """One for each process that writes or reads logs; call ``run`` as a task beside it."""

    def __init__(self, link: RedisLink):
        self._link = link
        self._open: dict[str, Writer] = {}

    async def begin(self, log_id: str, meta: Meta) -> Writer | None:
        """A new log, or None if the organization has no room for one. Raises LogUnavailable."""
        keys = [_meta_key(log_id), *_organization_keys(meta.organization)]
        try:
            is_begun = await self._link.run_script(_OPEN, keys, _begin_arguments(log_id, meta))
        except UNAVAILABLE as error:
            raise _unavailable() from error
        return self._writer(log_id, meta) if is_begun else None

    async def claim(
        self, key: str, fingerprint: str, log_id: str, meta: Meta
    ) -> tuple[Claim, Writer | None]:
        """A new log for ``key`` unless it has one: of callers at once one gets the writer.

        Raises LogUnavailable.
        """
        keys = [_meta_key(log_id), *_organization_keys(meta.organization), key]
        arguments = [fingerprint, *_begin_arguments(log_id, meta)]
        try:
            found = await self._link.run_script(_CLAIM, keys, arguments)
        except UNAVAILABLE as error:
            raise _unavailable() from error
        outcome, of, paid = (each.decode() for each in found)
        claim = Claim(outcome, of, paid == "1")
        return claim, self._writer(log_id, meta) if outcome == "mine" else None

    def _writer(self, log_id: str, meta: Meta) -> Writer:
        writer = self._open[log_id] = Writer(self, log_id, meta)
        return writer

    def forget(self, writer: Writer) -> None:
        """Its lease is not renewed any more."""
        self._open.pop(writer.log_id, None)

    async def script(self, script: Script, keys: list[str], arguments: list[Part]) -> str:
        answer: bytes = await self._link.run_script(script, keys, arguments)
        return answer.decode()

    async def store(self, writer: Writer, last: int, events: list[Event]) -> str:
        content = _encode_events(events)
        keys = [
            _meta_key(writer.log_id),
            _stream_key(writer.log_id),
            _sizes_key(writer.meta.organization),
        ]
        limits: list[Part] = [MOST_BYTES, MOST_EVENTS, settings.STREAM_LOG_ORGANIZATION_BYTES]
        arguments = [writer.log_id, last, content, len(content), *limits, writer.token]
        return await self.script(_APPEND, keys, arguments)

    # --- Durable logs ---------------------------------------------------------------------

    async def begin_durable(self, log_id: str, meta: Meta, events: list[Event]) -> bool:
        """A log with these events, for writers to take. False if there is no room for one.

        Raises LogUnavailable.
        """
        writer = await self.begin(log_id, meta)
        if writer is None:
            return False
        self.forget(writer)  # it has no lease
        for event in events:
            writer.append(event)
        if await writer.drain() == GONE:
            raise _unavailable()
        return writer.state == OPEN

    async def take(self, log_id: str, token: int) -> Writer | None:
        """The writer that goes on after the last event; earlier ones are refused from here on.
        None if there is nothing to go on with. Raises LogUnavailable."""
        meta = await self.meta(log_id)
        if meta is None:
            return None
        try:
            state, last = await self._link.run_script(
                _TAKE, [_meta_key(log_id), _stream_key(log_id)], [token]
            )
        except UNAVAILABLE as error:
            raise _unavailable() from error
        if state.decode() != OPEN:
            return None
        return Writer(self, log_id, meta, token=token, last=last)

    async def finish(self, log_id: str, meta: Meta, last: int, event: Event) -> bool:
        """Close a log whose writer is gone with ``event``, if ``last`` is its last one's number.

        Raises LogUnavailable.
        """
        keys = [_meta_key(log_id), _stream_key(log_id), _kept_key(meta.organization)]
        arguments: list[Part] = [log_id, last, meta.kept_s * 1000, _encode_events([event])]
        try:
            return bool(await self._link.run_script(_FINISH, keys, arguments))
        except UNAVAILABLE as error:
            raise _unavailable() from error

    async def drop(self, log_id: str, organization: int) -> None:
        """What it tells of is deleted. Raises LogUnavailable."""
        keys = [_meta_key(log_id), _stream_key(log_id), *_organization_keys(organization)]
        try:
            await self._link.run_script(_DROP, keys, [log_id])
        except UNAVAILABLE as error:
            raise _unavailable() from error

    # --- Reading ------------------------------------------------------------------------

    async def last(self, log_id: str) -> int:
        """The number of the last event; 0 if there is none. Raises LogUnavailable."""
        try:
            newest = await self._link.call("XREVRANGE", _stream_key(log_id), "+", "-", "COUNT", 1)
        except UNAVAILABLE as error:
            raise _unavailable() from error
        return int(newest[0][0].split(b"-")[0]) if newest else 0

    async def meta(self, log_id: str) -> Meta | None:
        """None if there is no such log. Raises LogUnavailable."""
        try:
            flat = await self._link.call("HGETALL", _meta_key(log_id))
        except UNAVAILABLE as error:
            raise _unavailable() from error
        named = {name.decode(): value.decode() for name, value in _pairs(flat)}
        return msgspec.convert(named, Meta, strict=False) if "organization" in named else None

    async def read(
        self, log_id: str, after: int, *, marks: bool = True
    ) -> tuple[str, list[tuple[int, Event]]]:
        """The log's state and some events after number ``after``; there may be more unless it
        gives none. ``marks`` tells the writer that somebody listens. Raises LogUnavailable."""
        keys = [_meta_key(log_id), _stream_key(log_id), _reader_key(log_id)]
        mark_ms = READER_MS if marks else 0
        try:
            state, entries = await self._link.run_script(
                _READ, keys, [log_id, after + 1, MOST_READ, mark_ms]
            )
        except UNAVAILABLE as error:
            raise _unavailable() from error
        return state.decode(), list(_events_after(entries, after))

    async def stored(self, log_id: str, after: int) -> list[Event]:
        """All that is there after number ``after``. Raises LogUnavailable."""
        found: list[Event] = []
        while True:
            _, events = await self.read(log_id, after, marks=False)
            if not events:
                return found
            found += [event for _, event in events]
            after = events[-1][0]

    async def follow(
        self, log_id: str, after: int = 0
    ) -> AsyncIterator[tuple[str, list[tuple[int, Event]]]]:
        """States with the events that came, until the log is no longer open. An empty list
        while nothing comes, every ``POLL_S``, so that callers can keep a connection alive."""
        while True:
            state, events = await self.read(log_id, after)
            if events:
                after = events[-1][0]
            elif state != OPEN:
                yield state, []
                return
            yield OPEN, events
            if not events:
                await asyncio.sleep(POLL_S)

    async def has_reader(self, log_id: str) -> bool:
        """Whether somebody reads it on another gateway; True if that cannot be known."""
        try:
            return bool(await self._link.call("EXISTS", _reader_key(log_id)))
        except UNAVAILABLE:
            return True

    # --- Leases -------------------------------------------------------------------------

    async def run(self) -> None:
        """Renew the leases of the open logs for ever."""
        while True:
            await asyncio.sleep(RENEW_S)
            ids = list(self._open)
            for start in range(0, len(ids), 1000):
                part: list[Part] = [LEASE_MS, *ids[start : start + 1000]]
                try:
                    await self._link.run_script(_RENEW, [], part)
                except UNAVAILABLE as error:
                    log.warning("stream_log.not_renewed", extra={"error": repr(error)})


# A reader's mark lasts for some of its looks.
READER_MS = 5_000


async def forsake(link: RedisLink, log_id: str) -> bool:
    """End the log of a request whose gateway died, if it is open; whether its answer had been
    committed, and so is to be billed. Raises RedisError."""
    return bool(await link.run_script(_FORSAKE, [_meta_key(log_id)], [log_id]))


def _begin_arguments(log_id: str, meta: Meta) -> list[Part]:
    # While it is open it lives as long as the longest request, and then as it says.
    open_ms = int((meta.open_s or settings.REQUEST_TIMEOUT_S) + meta.kept_s) * 1000
    lease_ms = 0 if meta.is_durable else LEASE_MS
    most = settings.STREAM_LOG_ORGANIZATION_BYTES
    return [log_id, lease_ms, open_ms, most, OVERHEAD_BYTES, *meta.fields()]


def _kept_key(organization: int) -> str:
    return f"logs.kept:{organization}"


def _sizes_key(organization: int) -> str:
    return f"logs.sizes:{organization}"


def _organization_keys(organization: int) -> list[str]:
    return [_kept_key(organization), _sizes_key(organization)]


def _events_after(entries: Iterable[Any], after: int) -> Iterable[tuple[int, Event]]:
    """Events with their numbers; an entry that is no batch of events ends the list."""
    for entry_id, fields in entries:
        events = _decode_events(fields[1])
        first = int(entry_id.split(b"-")[0]) - len(events) + 1
        for number, event in enumerate(events, first):
            if number > after:
                yield number, event


def _pairs(flat: list[bytes]) -> Iterable[tuple[bytes, bytes]]:
    return zip(flat[::2], flat[1::2], strict=True)


def _unavailable() -> LogUnavailable:
    return LogUnavailable("Answers cannot be kept right now. Try again shortly.")
