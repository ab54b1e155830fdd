"""One gateway of several that flood one limit; ``test_admission_race`` starts four.

Run as ``python -m tests.tenants.flood <redis url>``: it takes floods, each a line of JSON, and
answers each with a line: how many requests were admitted.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from dataclasses import asdict, dataclass

import redis.asyncio

from tenants.admission import Admission
from tenants.errors import LimitExceeded
from tenants.principal import Limits, Principal
from tenants.redis_link import RedisLink
from tests.tenants.factory import MODEL, Ledger, make_principal

TASKS = 8
READY, GO, IN_FLIGHT, PEAK = "flood.ready", "flood.go", "flood.in_flight", "flood.peak"


@dataclass
class Flood:
    """``field`` of ``Limits`` (or ``credit``) is ``limit`` for ``place`` of ``make_principal``.

    ``each`` is what a request is charged in tokens and micro-dollars; ``is_atomic`` off
    is the control.
    """

    field: str
    limit: int
    attempts: int
    place: str = "organization"
    each: int = 1
    releases: bool = False
    is_atomic: bool = True

    def line(self) -> str:
        return json.dumps(asdict(self)) + "\n"

    def principal(self) -> Principal:
        if self.field == "credit":
            return make_principal(credit=self.limit)
        limits = Limits(**{self.field: self.limit})
        chosen = {MODEL: limits} if self.place.endswith("models") else limits
        return make_principal(**{self.place: chosen})  # type: ignore[arg-type]


async def check_then_act(client: redis.asyncio.Redis, flood: Flood) -> bool:
    """The same promise without the script: two commands with a gap between them."""
    used = int(await client.get("naive") or 0)
    if used + flood.each > flood.limit:
        return False
    await client.incrby("naive", flood.each)
    return True


async def attempt(client: redis.asyncio.Redis, admission: Admission, flood: Flood) -> bool:
    if not flood.is_atomic:
        return await check_then_act(client, flood)
    request_id = os.urandom(8).hex()
    try:
        await admission.admit(
            flood.principal(),
            request_id,
            model=MODEL,
            expected_tokens=flood.each,
            most_tokens=flood.each,
            most_cost_micros=flood.each,
            note=b"",
        )
    except LimitExceeded:
        return False
    if flood.releases:
        # Counted after the admission and before the settlement: never more than are held.
        now = await client.incr(IN_FLIGHT)
        await client.zadd(PEAK, {"peak": now}, gt=True)
        await asyncio.sleep(0.001)
        await client.decr(IN_FLIGHT)
        await admission.settle(
            request_id, used_tokens=flood.each, cost_micros=flood.each, report=b""
        )
    return True


async def take_part(client: redis.asyncio.Redis, admission: Admission, flood: Flood) -> int:
    await client.incr(READY)
    deadline = time.monotonic() + 60
    while not await client.exists(GO):
        if time.monotonic() > deadline:
            raise SystemExit("nobody said go")
        await asyncio.sleep(0.002)

    async def one_client() -> int:
        each = flood.attempts // TASKS
        return sum([await attempt(client, admission, flood) for _ in range(each)])

    return sum(await asyncio.gather(*(one_client() for _ in range(TASKS))))


async def main(redis_url: str) -> None:
    client = redis.asyncio.from_url(redis_url)
    link = RedisLink(redis_url, timeout_s=30, name="flood")
    admission = Admission(link, 900, Ledger())
    while line := await asyncio.to_thread(sys.stdin.readline):
        print(await take_part(client, admission, Flood(**json.loads(line))), flush=True)
    await link.aclose()
    await client.aclose()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
