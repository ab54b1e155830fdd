"""What admission takes of Redis: the two scripts' time by Redis's own count of it.

An embedded Valkey of its own, configured as an installation's (append-only file), and the
platform's own ``Admission``, 100 requests at once in one write. Money is seeded before
anything is counted.
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
import statistics
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

import redis

from benchmarks.prompts import BASE_DIR
from benchmarks.server import say
from benchmarks.sizes import Sizes
from deploy.local import valkey
from tenants.admission import Admission, Spent, SpentQuery
from tenants.principal import Limits, Principal
from tenants.redis_link import Part, RedisLink, Script

STATE_DIR = BASE_DIR / ".sluice" / "bench-admission"
AT_ONCE, BATCHES = 100, 10
MODEL = "smollm2-135m-instruct"
NOTE, REPORT = b"n" * 80, b"r" * 160  # as long as an installation's
EXPECTED, MOST, MICROS, USED, COST = 300, 4_000, 5_000, 120, 77
NOTHING = Script("return 1")

# So wide that nothing is refused; each is still checked, held and settled.
RATES = Limits(requests_per_minute=10**8, tokens_per_minute=10**10)
EVERY = Limits(
    requests_per_minute=10**8,
    requests_per_hour=10**9,
    requests_per_day=10**9,
    tokens_per_minute=10**10,
    tokens_per_day=10**11,
    concurrent_requests=10**6,
    monthly_tokens=10**14,
    monthly_budget_micros=10**14,
)


@dataclass(frozen=True)
class Case:
    name: str
    limits: int
    principal: Principal


def _principal(
    organization: Limits,
    project: Limits,
    key: Limits,
    *,
    credit: int | None = None,
    models: dict[str, Limits] | None = None,
) -> Principal:
    return Principal(
        api_key=1_234_567,
        project=123_456,
        organization=12_345,
        organization_public_id="org_benchmark",
        fair_share_weight=1,
        region="",
        data_residency=False,
        screening_policy="allow",
        response_cache_ttl_s=0,
        is_suspended=False,
        key_expires_at=None,
        organization_limits=organization,
        project_limits=project,
        key_limits=key,
        organization_model_limits=models or {},
        project_model_limits=models or {},
        credit_granted_micros=credit,
    )


CASES = (
    Case("no limits", 0, _principal(Limits(), Limits(), Limits())),
    Case("two rates of the organization", 2, _principal(RATES, Limits(), Limits())),
    Case("all limits of three levels, credit", 25, _principal(EVERY, EVERY, EVERY, credit=10**14)),
    Case(
        "the same, and all limits of the model at two levels",
        41,
        _principal(EVERY, EVERY, EVERY, credit=10**14, models={MODEL: EVERY}),
    ),
)


def measure(sizes: Sizes) -> dict[str, object]:
    shutil.rmtree(STATE_DIR, ignore_errors=True)
    STATE_DIR.mkdir(parents=True)
    url = valkey.start(STATE_DIR)
    try:
        return asyncio.run(_measure(url, sizes))
    finally:
        valkey.stop(STATE_DIR)


async def _measure(url: str, sizes: Sizes) -> dict[str, object]:
    server = redis.Redis.from_url(url)
    meter = Meter(server)
    rounds: list[dict[str, tuple[float, float]]] = []
    for number in range(sizes.admission_rounds):
        # Round by round, so that a busy moment of the machine falls on all of them.
        rounds.append({case.name: await meter.round(case.principal) for case in CASES})
        say(f"round {number + 1} of {sizes.admission_rounds}")
    return {
        "rows": [_row(case, [each[case.name] for each in rounds]) for case in CASES],
        "floor_us": await meter.floor(),
        "rounds": sizes.admission_rounds,
        "requests": AT_ONCE * BATCHES,
        "at_once": AT_ONCE,
        "server": f"Valkey {server.info('server').get('valkey_version', '')}",
    }


def _row(case: Case, rounds: list[tuple[float, float]]) -> dict[str, object]:
    sums = sorted(map(sum, rounds))
    return {
        "case": case.name,
        "limits": case.limits,
        "admit_us": statistics.median(admit for admit, _ in rounds),
        "settle_us": statistics.median(settle for _, settle in rounds),
        "sum_us": statistics.median(sums),
        "best_us": sums[0],
        "worst_us": sums[-1],
    }


class PipelinedLink(RedisLink):
    """Scripts of one moment leave in one write, so that Redis waits for nobody in between."""

    def __init__(self, server: redis.Redis):
        self._server = server
        self._known: set[str] = set()
        self._waiting: list[tuple[asyncio.Future[object], list[Part]]] = []

    async def run_script(self, script: Script, keys: list[str], arguments: list[Part]) -> object:
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._send)
        if script.sha not in self._known:
            self._known.add(script.sha)
            self._server.script_load(script.text)
        self._waiting.append((future, [script.sha, len(keys), *keys, *arguments]))
        return await future

    def _send(self) -> None:
        waiting, self._waiting = self._waiting, []
        pipeline = self._server.pipeline(transaction=False)
        for _, parts in waiting:
            pipeline.execute_command("EVALSHA", *parts)
        for (future, _), answer in zip(waiting, pipeline.execute(), strict=True):
            future.set_result(answer)


class Meter:
    """Runs rounds of admissions and settlements, and reads what Redis counted of each."""

    def __init__(self, server: redis.Redis):
        self._server, self._link = server, PipelinedLink(server)
        self._admission = Admission(self._link, 900, _nothing_spent)
        self._serial = itertools.count()

    async def round(self, principal: Principal) -> tuple[float, float]:
        """µs of Redis for an admission and for a settlement: the medians of its batches."""
        ids = [f"{next(self._serial):032x}" for _ in range(AT_ONCE)]
        await self._admit(principal, ids[0])  # seeds what is not known yet
        await self._settle(ids[0])
        admitted, settled = [], []
        for _ in range(BATCHES):
            admitted.append(await self._counted(partial(self._admit, principal), ids))
            settled.append(await self._counted(self._settle, ids))
            self._server.delete("usage.reports")  # as the collector does
        return statistics.median(admitted), statistics.median(settled)

    async def floor(self) -> float:
        """µs of a script that does nothing."""

        async def call(_: str) -> None:
            await self._link.run_script(NOTHING, [], [])

        return await self._counted(call, [""] * AT_ONCE * BATCHES)

    async def _counted(self, call: Callable[[str], Awaitable[object]], ids: list[str]) -> float:
        self._server.config_resetstat()
        await asyncio.gather(*(call(each) for each in ids))
        counted = self._server.info("commandstats")["cmdstat_evalsha"]
        assert counted["calls"] == len(ids) and not counted["failed_calls"]
        return float(counted["usec"]) / len(ids)

    async def _admit(self, principal: Principal, request_id: str) -> None:
        await self._admission.admit(
            principal,
            request_id,
            model=MODEL,
            expected_tokens=EXPECTED,
            most_tokens=MOST,
            most_cost_micros=MICROS,
            note=NOTE,
        )

    async def _settle(self, request_id: str) -> None:
        await self._admission.settle(request_id, used_tokens=USED, cost_micros=COST, report=REPORT)


async def _nothing_spent(_query: SpentQuery) -> Spent:
    return Spent(0, 0, 0)
