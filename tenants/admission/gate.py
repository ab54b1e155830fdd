"""The scripts, called from gateways (async) and from the reconciler."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import struct
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cachetools import LRUCache
from redis.exceptions import RedisError

from tenants.admission.fallback import Fallback
from tenants.admission.kinds import Costs
from tenants.admission.limits import Months, Tightest, months_at, rate_headers, refusal
from tenants.admission.scripts import ADMIT, DOUBT, SETTLE, STATE_KEPT_MS
from tenants.admission.seeding import ReadSpent, Seeder, nobody_knows
from tenants.admission.subjects import Asked, Subject, asked_of, keys_of
from tenants.admission.together import Together
from tenants.errors import AdmissionUnavailable, LimitExceeded, RateHeaders
from tenants.patience import Patience
from tenants.principal import Principal
from tenants.redis_link import Part, RedisLink

log = logging.getLogger(__name__)

HOLDS = "holds"
USAGE_STREAM = "usage.reports"
# At some 200 bytes a report this is 200 MB: hours of traffic while PostgreSQL is
# away. Past it nothing is admitted, because it could not be billed.
MOST_WAITING_REPORTS = 1_000_000
# Somebody settled between reading a sum and keeping it; more often than so in a row, and
# the client may ask again in a second.
SEEDINGS = 2
# Refused while Redis was away, and perhaps held there; of more the oldest expire by themselves.
MOST_UNRELEASED = 10_000
RELEASE_RETRY_S = (0.25, 0.75)
# An amount above this is a broken counter; Lua counts exactly to nine times as much.
MOST_AMOUNT = 10**15
NEVER_MS = 10**15  # as in admit.lua
UNREACHABLE = (RedisError, OSError, TimeoutError)
_ADMITTED, _UNRECORDED, _UNKNOWN = 1, -1, -2
_COMMON = struct.Struct("<8d")
_OWN = struct.Struct("<4d")
# What settle.lua reads of a hold after month and slot: costs, and how many subjects have a
# limit and how many there are; then each one's ``Subject.held``.
_COSTS = struct.Struct("<ddd")
_HOLD = struct.Struct("<dddBB")
# Of a principal's subjects, and what is packed of them: about 1 KB each.
ASKED_KEPT = 10_000
_Settlement = tuple[str, int, int, bytes]
_MONTH_AND_SLOT_BYTES = 16
_KEY_BYTES = struct.Struct("<H")
_STEPS_BYTES = 16


@dataclass(frozen=True, slots=True)
class Hold:
    """A reservation of every limit for one request, to be settled exactly once."""

    request_id: str
    headers: RateHeaders


@dataclass(frozen=True, slots=True)
class ExpiredHold:
    request_id: str
    note: bytes
    expired_at: float  # Unix seconds


class Admit(NamedTuple):
    """One request as admit.lua is asked about it."""

    request_id: str
    asked: Asked
    costs: Costs
    note: bytes


class Admission:
    """Checks and reserves limits, settles them; one for each process."""

    def __init__(self, link: RedisLink, hold_expiry_s: float, read_spent: ReadSpent = nobody_knows):
        self._link = link
        self._lease_ms = int(hold_expiry_s * 1000)
        self._seeder = Seeder(link, read_spent)
        self._fallback = Fallback()
        self._months = Months(0, 0, 0, 0)
        self._releasing: set[asyncio.Task[None]] = set()
        self._unreleased: deque[str] = deque(maxlen=MOST_UNRELEASED)
        self._releaser: asyncio.Task[None] | None = None
        self._asked: LRUCache[tuple[int, str, bool], Asked] = LRUCache(ASKED_KEPT)
        self._admitting = Together(link, ADMIT, self._pack_admits)
        self._settling = Together(link, SETTLE, _pack_settlements)

    async def admit(
        self,
        principal: Principal,
        request_id: str,
        *,
        model: str,
        expected_tokens: int,
        most_tokens: int,
        most_cost_micros: int,
        note: bytes,
        counts_rates: bool = True,
    ) -> Hold:
        """Reserve every limit at once, or raise LimitExceeded / AdmissionUnavailable.

        Rates hold the expected tokens, the month's quota the most tokens, budgets and
        credit the most that the request can cost. ``note`` (opaque) is kept with the
        hold for whoever reconciles it. Without ``counts_rates`` (batches) it counts for
        quota, budget and credit alone: neither for rates nor for the requests at once.
        """
        asked = self._asked_of(principal, model, counts_rates)
        costs = Costs(
            min(max(expected_tokens, 0), MOST_AMOUNT),
            min(max(most_tokens, 0), MOST_AMOUNT),
            min(max(most_cost_micros, 0), MOST_AMOUNT),
        )
        try:
            answer = await self._ask_and_seed(asked, request_id, costs, note)
        except asyncio.CancelledError:
            # The script may have run. What leaves on the same connection comes after it.
            self._release_later(request_id)
            raise
        except UNREACHABLE as error:
            return self._admit_alone(asked, request_id, costs, error)
        return _judged(answer, asked.subjects, request_id, costs)

    def _admit_alone(self, asked: Asked, request_id: str, costs: Costs, error: Exception) -> Hold:
        try:
            return Hold(request_id, self._fallback.admit(asked.subjects, request_id, costs, error))
        except (LimitExceeded, AdmissionUnavailable):
            # A Redis that was silent may have held it for a request that is refused now.
            self._release_when_back(request_id)
            raise

    def _asked_of(self, principal: Principal, model: str, counts_rates: bool) -> Asked:
        """The same for all requests of a principal, which is made anew when anything changes."""
        key = id(principal), model, counts_rates
        asked = self._asked.get(key)
        if asked is None or asked.principal is not principal:
            asked = self._asked[key] = asked_of(principal, model, counts_rates)
        return asked

    async def _ask_and_seed(
        self, asked: Asked, request_id: str, costs: Costs, note: bytes
    ) -> list[int]:
        subjects = asked.subjects
        for _ in range(1 + SEEDINGS):
            answer: list[int] = await self._admitting.ask(Admit(request_id, asked, costs, note))
            if answer[0] == _UNRECORDED:
                raise AdmissionUnavailable("Usage cannot be recorded right now. Try again shortly.")
            if answer[0] != _UNKNOWN:
                return answer
            _, month, *unknown = answer
            pairs = zip(unknown[::2], unknown[1::2], strict=True)
            await self._seeder.seed([(subjects[by - 1], doubts) for by, doubts in pairs], month)
        raise AdmissionUnavailable("What was spent is not known right now. Try again shortly.")

    def _pack_admits(self, admits: Sequence[Admit]) -> tuple[list[str], list[Part]]:
        """Keys and arguments of admit.lua."""
        common = (len(admits), STATE_KEPT_MS, self._lease_ms, MOST_WAITING_REPORTS)
        arguments: list[Part] = [_COMMON.pack(*common, *self._months_now())]
        places: dict[str, int] = {}
        for request_id, asked, costs, note in admits:
            indexes = bytes([places.setdefault(key, len(places) + 1) for key in asked.keys])
            arguments += (
                request_id,
                _OWN.pack(*costs, asked.places),
                indexes,
                asked.limits,
                b"%b%b%b" % (_COSTS.pack(*costs), asked.held, note),
            )
        return [HOLDS, USAGE_STREAM, *(f"held:{each[0]}" for each in admits), *places], arguments

    def _months_now(self) -> Months:
        now = time.time()
        if not self._months.begins <= now * 1000 < self._months.next_begins:
            self._months = months_at(now)
        return self._months

    async def settle(
        self,
        request_id: str,
        *,
        used_tokens: int,
        cost_micros: int,
        report: bytes,
        patience: Patience | None = None,
    ) -> bool:
        """End a hold. True when this call ended it; safe to repeat. Raises RedisError, and
        TimeoutError where patience ended first."""
        used = max(0, min(used_tokens, MOST_AMOUNT))
        cost = max(0, min(cost_micros, MOST_AMOUNT))
        self._fallback.release(request_id, used)
        settled = self._settling.ask((request_id, used, cost, report))
        return bool(await (settled if patience is None else patience.bound(settled)))

    def _release_later(self, request_id: str) -> None:
        task = asyncio.create_task(self.release(request_id))
        self._releasing.add(task)
        task.add_done_callback(self._releasing.discard)

    def _release_when_back(self, request_id: str) -> None:
        self._unreleased.append(request_id)
        if self._releaser is None or self._releaser.done():
            self._releaser = asyncio.create_task(self._release_unreleased())

    async def _release_unreleased(self) -> None:
        while self._unreleased:
            request_id = self._unreleased[0]
            try:
                await self.settle(request_id, used_tokens=0, cost_micros=0, report=b"")
            except UNREACHABLE:
                await asyncio.sleep(random.uniform(*RELEASE_RETRY_S))  # noqa: S311
            else:
                # The bound may have pushed it out meanwhile.
                if self._unreleased and self._unreleased[0] == request_id:
                    self._unreleased.popleft()

    async def release(self, request_id: str) -> None:
        try:
            await self.settle(request_id, used_tokens=0, cost_micros=0, report=b"")
        except UNREACHABLE as error:  # then it expires, and the reconciler ends it
            log.warning(
                "admission.unreleased", extra={"request_id": request_id, "error": repr(error)}
            )

    async def doubt(
        self, *, organization: int, project: int, api_key: int | None, model: str
    ) -> None:
        """Have their sums read anew: a request of theirs was settled without a hold."""
        keys = keys_of(organization, project, api_key, model)
        await self._link.run_script(DOUBT, keys, [STATE_KEPT_MS])

    async def expired_holds(self, now: float, count: int = 500) -> list[ExpiredHold]:
        """Holds that nobody settled in their time, oldest first."""
        due: list[bytes] = await self._link.call(
            "ZRANGEBYSCORE", HOLDS, "-inf", now * 1000, "WITHSCORES", "LIMIT", 0, count
        )
        holds = []
        for raw_id, score in zip(due[::2], due[1::2], strict=True):
            request_id = raw_id.decode()
            packed: bytes | None = await self._link.call("GET", f"held:{request_id}")
            if packed is None:
                await self._link.call("ZREM", HOLDS, raw_id)
            else:
                holds.append(ExpiredHold(request_id, _note_of(packed), float(score) / 1000))
        return holds


def _judged(answer: list[int], subjects: list[Subject], request_id: str, costs: Costs) -> Hold:
    headers = rate_headers(Tightest(*answer[4:7]), Tightest(*answer[7:10]))
    verdict, by, limit, wait_ms, *_ = answer
    if verdict == _ADMITTED:
        return Hold(request_id, headers)
    # Rounded up, so that whoever waits for so long is not a moment early.
    retry_after_s = math.ceil(wait_ms / 10) / 100 if wait_ms < NEVER_MS else None
    raise refusal(limit - 1, subjects[by - 1], costs, retry_after_s, headers)


def _pack_settlements(settlements: Sequence[_Settlement]) -> tuple[list[str], list[Part]]:
    """Keys and arguments of settle.lua."""
    keys = [HOLDS, USAGE_STREAM, *(f"held:{each[0]}" for each in settlements)]
    arguments: list[Part] = [STATE_KEPT_MS]
    for settlement in settlements:
        arguments += settlement
    return keys, arguments


def _note_of(packed: bytes) -> bytes:
    *_, count = _HOLD.unpack_from(packed, _MONTH_AND_SLOT_BYTES)
    at = _MONTH_AND_SLOT_BYTES + _HOLD.size
    for _ in range(count):
        (key_bytes,) = _KEY_BYTES.unpack_from(packed, at + _STEPS_BYTES)
        at += _STEPS_BYTES + _KEY_BYTES.size + key_bytes
    return packed[at:]
