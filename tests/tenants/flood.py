"""One gateway of several that flood one limit; ``test_admission_race`` starts four.

Run as ``python -m tests.tenants.flood <JSON of Flood>``; prints how many requests were admitted.
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
from tenants.principal import Limits
from tenants.redis_link import RedisLink
from tests.tenants.factory import make_principal

TASKS = 8
GO, IN_FLIGHT, PEAK = "flood.go", "flood.in_flight", "flood.peak"


@dataclass
class Flood:
    """``field`` of ``Limits`` is ``limit``; ``is_atomic`` off is the control."""

    redis_url: str
    field: str
    limit: int
    attempts: int
    tokens: int = 1
    releases: bool = False
    is_atomic: bool = True

    def argument(self) -> str:
        return json.dumps(asdict(self))


async def check_then_act(client: redis.asyncio.Redis, flood: Flood) -> bool:
    """The same promise without the script: two commands with a gap between them."""
    used = int(await client.get("naive") or 0)
    if used + flood.tokens > flood.limit:
        return False
    await client.incrby("naive", flood.tokens)
    return True


async def attempt(client: redis.asyncio.Redis, admission: Admission, flood: Flood) -> bool:
    if not flood.is_atomic:
        return await check_then_act(client, flood)
    request_id = os.urandom(8).hex()
    try:
        await admission.admit(
            make_principal(Limits(**{flood.field: flood.limit})),
            request_id,
            expected_tokens=flood.tokens,
            most_tokens=flood.tokens,
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
        await admission.settle(request_id, flood.tokens, b"")
    return True


async def main(flood: Flood) -> int:
    client = redis.asyncio.from_url(flood.redis_url)
    link = RedisLink(flood.redis_url, timeout_s=30, name="flood")
    admission = Admission(link, hold_expiry_s=900)
    await client.incr("flood.ready")
    deadline = time.monotonic() + 60
    while not await client.exists(GO):
        if time.monotonic() > deadline:
            raise SystemExit("nobody said go")
        await asyncio.sleep(0.005)

    async def one_client() -> int:
        each = flood.attempts // TASKS
        return sum([await attempt(client, admission, flood) for _ in range(each)])

    admitted = sum(await asyncio.gather(*(one_client() for _ in range(TASKS))))
    await link.aclose()
    await client.aclose()
    return admitted


if __name__ == "__main__":
    print(asyncio.run(main(Flood(**json.loads(sys.argv[1])))))
