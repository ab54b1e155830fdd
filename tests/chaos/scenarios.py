"""The scenarios: each puts the platform under load, breaks something at random moments, and
says what that may cost. ``SCENARIOS`` is in the order in which a full run has them."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from tests.chaos.clients import PROMPTS, Ask
from tests.chaos.ground import ProcessGone
from tests.chaos.trial import Trial


@dataclass(frozen=True)
class Size:
    """How much of everything; a run in CI is smaller."""

    rounds: int = 8
    streams: int = 100  # a round
    faults: int = 3  # of each kind
    redis_gone_s: float = 60.0
    postgres_gone_s: float = 30.0
    restart_requests: int = 10_000
    engine_faults: int = 3
    mixtures: int = 2
    kills_gateways: bool = True  # whose holds are released after a minute only


FULL = Size()
SHORT = Size(1, 24, 1, 4.0, 3.0, 300, 1, mixtures=1, kills_gateways=False)
RECOVERS_WITHIN_S = 10.0
SERVED_SHARE = 0.99


async def replicas_killed(trial: Trial, size: Size) -> None:
    """A replica is killed in each round, in the middle of all its streams."""
    done = 0
    for number in range(size.rounds):
        await trial.ground.all_ready()
        asks = [
            Ask(trial.rng.choice(trial.open), trial.rng.randrange(PROMPTS), retries=0)
            for _ in range(size.streams)
        ]
        running = asyncio.create_task(trial.clients.ask_all(asks, at_once=len(asks)))
        await trial.pause(0.2, 1.0)
        trial.fault(f"round {number + 1}")
        await _kill_replica(trial)
        done += sum(record.outcome == "complete" for record in await running)
    total = size.rounds * size.streams
    trial.expect("every stream completes", done == total, f"{done} of {total}, no retries")


async def _kill_replica(trial: Trial) -> None:
    victim = trial.rng.choice(trial.ground.replica_names)
    pid = trial.ground.signal(victim, signal.SIGKILL)
    trial.fault(f"kill -9 {victim} ({pid})")


async def worker_frozen(trial: Trial, size: Size) -> None:
    """A worker is stopped, given up, and goes on when its sequences run elsewhere."""
    async with trial.load():
        for _ in range(size.faults):
            await trial.pause(1.0, 3.0)
            await _freeze_worker(trial)
            thawed_at = time.time()
            await trial.pause(2.0, 3.0)
            trial.recovered(thawed_at)
    _expect_no_loss(trial)


async def _freeze_worker(trial: Trial) -> None:
    victim = trial.rng.choice(trial.ground.replica_names)
    frozen_s = trial.chance(4.0, 8.0)
    trial.ground.signal(victim, signal.SIGSTOP)
    trial.fault(f"SIGSTOP {victim} for {frozen_s:.1f} s")
    await asyncio.sleep(frozen_s)
    trial.ground.signal(victim, signal.SIGCONT)


async def network_cut(trial: Trial, size: Size) -> None:
    """Redis is cut off: connections dropped, or silent; for everybody, or for one worker."""
    trial.most_at_once = trial.narrow.limit + _share(trial)
    async with trial.load():
        for number in range(size.faults):
            for cut in (_drop, _silence, _partition):
                await trial.pause(1.0, 3.0)
                await cut(trial)
                mended_at = time.time()
                await trial.pause(4.0, 6.0) if number else await asyncio.sleep(8.0)
                trial.recovered(mended_at)
    _expect_recovery(trial)
    _expect_no_loss(trial)


async def _drop(trial: Trial) -> None:
    gone_s = trial.chance(1.0, 3.0)
    trial.fault(f"connections to Redis dropped and refused for {gone_s:.1f} s")
    await trial.ground.proxy.cut()
    await asyncio.sleep(gone_s)
    await trial.ground.proxy.mend()


async def _silence(trial: Trial) -> None:
    gone_s = trial.chance(2.0, 4.0)
    trial.fault(f"connections to Redis silent for {gone_s:.1f} s, then dropped")
    trial.ground.proxy.hang()
    await asyncio.sleep(gone_s)
    await trial.ground.proxy.cut()
    await trial.ground.proxy.mend()


async def _partition(trial: Trial) -> None:
    victim, gone_s = trial.rng.choice(trial.ground.replica_names), trial.chance(3.0, 6.0)
    trial.fault(f"{victim} alone cut off from Redis for {gone_s:.1f} s")
    trial.ground.bar_worker(victim)
    await asyncio.sleep(gone_s)
    trial.ground.proxy.bar()


async def redis_loses_all(trial: Trial, size: Size) -> None:
    """Redis is killed and comes back with nothing."""
    # Requests under way are forgotten with their holds, once an outage.
    trial.most_at_once = 2 * trial.narrow.limit + _share(trial)
    async with trial.load():
        for _ in range(size.faults):
            await trial.pause(2.0, 4.0)
            await _wipe_redis(trial)
            back_at = time.time()
            await asyncio.sleep(RECOVERS_WITHIN_S)
            trial.recovered(back_at)
    _expect_recovery(trial)
    _expect_no_loss(trial)


async def _wipe_redis(trial: Trial) -> None:
    gone_s = trial.chance(0.2, 2.0)
    await trial.ground.kill_valkey(loses_data=True)
    trial.fault(f"kill -9 Valkey, its data deleted, back after {gone_s:.1f} s")
    await asyncio.sleep(gone_s)
    await trial.ground.start_valkey()


async def redis_gone(trial: Trial, size: Size) -> None:
    """Redis is away for a minute; keys are presented all the while, known ones and new ones."""
    trial.most_at_once = trial.narrow.limit + _share(trial)
    keys = [key for tenant in trial.open for key in tenant.keys]
    known = keys[::2]
    for key in known:
        await trial.clients.get("/v1/models", key)
    async with trial.load():
        await trial.pause(2.0, 4.0)
        await trial.ground.kill_valkey(loses_data=False)
        gone_at = time.time()
        trial.fault(f"kill -9 Valkey, away for {size.redis_gone_s:g} s")
        statuses = await _present(trial, keys, gone_at + size.redis_gone_s)
        await trial.ground.start_valkey()
        back_at = time.time()
        await asyncio.sleep(RECOVERS_WITHIN_S)
        trial.recovered(back_at)
    served = statuses[200] / statuses.total()
    trial.expect(
        "valid keys served without Redis",
        served >= SERVED_SHARE,
        f"{100 * served:.2f} % of {statuses.total()} by {len(keys)} keys, {dict(statuses)}",
    )
    _expect_tokens_between(trial, gone_at, back_at)
    _expect_recovery(trial)
    _expect_no_loss(trial)


async def _present(trial: Trial, keys: list[str], until: float) -> Counter[int]:
    """Every key in turn, some ten a second; half of them no gateway has seen."""
    statuses: Counter[int] = Counter()
    while time.time() < until:
        for key in trial.rng.sample(keys, len(keys)):
            statuses[await trial.clients.get("/v1/models", key)] += 1
            await asyncio.sleep(0.05)
            if time.time() >= until:
                break
    return statuses


async def postgres_restarted(trial: Trial, size: Size) -> None:
    """PostgreSQL crashes and is started again at once."""
    async with trial.load():
        for _ in range(size.faults):
            await trial.pause(1.0, 3.0)
            await _restart_postgres(trial)
            back_at = time.time()
            await trial.pause(3.0, 5.0)
            trial.recovered(back_at)
    _expect_no_loss(trial)
    _expect_known_keys_served(trial)


async def _restart_postgres(trial: Trial) -> None:
    how = trial.rng.choice((signal.SIGQUIT, signal.SIGINT))
    await trial.ground.stop_postgres(how)
    trial.fault(f"PostgreSQL ended by {how.name} and started again")
    await trial.ground.start_postgres()


async def postgres_gone(trial: Trial, size: Size) -> None:
    """PostgreSQL is away for half a minute, under the load of known keys."""
    async with trial.load():
        await trial.pause(2.0, 4.0)
        await trial.ground.stop_postgres(signal.SIGQUIT)
        trial.fault(f"PostgreSQL ended by SIGQUIT, away for {size.postgres_gone_s:g} s")
        await asyncio.sleep(size.postgres_gone_s)
        await trial.ground.start_postgres()
        back_at = time.time()
        await trial.pause(3.0, 5.0)
        trial.recovered(back_at)
    _expect_no_loss(trial)
    _expect_known_keys_served(trial)


async def gateway_killed(trial: Trial, size: Size) -> None:
    """A gateway is killed; its clients' streams break, and whoever asks again is served."""
    async with trial.load():
        for _ in range(size.faults):
            await trial.pause(2.0, 4.0)
            await _kill_gateway(trial)
            killed_at = time.time()
            await asyncio.sleep(1.0)
            await trial.ground.all_ready()
            trial.recovered(killed_at)
    failed, cut = trial.of("failed", "refused"), trial.of("cut")
    trial.expect(
        "whoever asks again is served", not failed, f"{len(failed)} failed, {len(cut)} cut"
    )


async def _kill_gateway(trial: Trial) -> None:
    victim = trial.rng.choice(trial.ground.gateway_names)
    pid = trial.ground.signal(victim, signal.SIGKILL)
    trial.fault(f"kill -9 {victim} ({pid})")


async def mixture(trial: Trial, size: Size) -> None:
    """One of each in a random order, the next while the platform still recovers."""
    trial.most_at_once = 2 * trial.narrow.limit + _share(trial)
    faults = [_kill_replica, _freeze_worker, _drop, _partition, _wipe_redis, _restart_postgres]
    async with trial.load():
        for _ in range(size.mixtures):
            for fault in trial.rng.sample(faults, len(faults)):
                await trial.pause(0.5, 2.0)
                await _when_possible(trial, fault)
            if size.kills_gateways:
                # Not at once: what Redis lost, or could not be told, is in its gateways'
                # memory until they have delivered it (docs/chaos.md).
                await trial.pause(6.0, 8.0)
                await _kill_gateway(trial)
        ended_at = time.time()
        await trial.ground.all_ready()
        trial.recovered(ended_at)
    bad = trial.of("failed", *([] if size.kills_gateways else ["cut"]))
    trial.expect("whoever asks again is served", not bad, f"{len(bad)} failed")


async def _when_possible(trial: Trial, fault: Fault) -> None:
    """A victim that is being started again has no process yet to harm."""
    with suppress(ProcessGone):
        await fault(trial)


async def all_restarted(trial: Trial, size: Size) -> None:
    """Every process is restarted in turn, again and again, under a number of requests."""
    asks = (
        Ask(trial.rng.choice(trial.open), trial.rng.randrange(PROMPTS), trial.rng.random() < 0.5)
        for _ in range(size.restart_requests)
    )
    running = asyncio.create_task(trial.clients.ask_all(asks, at_once=48))
    passes = 0
    while not running.done():
        trial.fault(f"pass {passes + 1}: every process restarted in turn")
        await asyncio.to_thread(trial.ground.platform.restart)
        passes += 1
    records = await running
    done = sum(record.outcome == "complete" for record in records)
    first = sum(len(record.attempts) == 1 for record in records)
    trial.notes |= {"passes": passes, "at the first attempt": first}
    trial.expect(
        "no request fails", done == size.restart_requests, f"{done} of {size.restart_requests}"
    )


# --- What each may cost -----------------------------------------------------------------------


def _share(trial: Trial) -> int:
    """What all gateways together give out of the narrow limit without Redis: a quarter each,
    and one at least (docs/rooms/tenants.md)."""
    return trial.ground.gateways * max(1, trial.narrow.limit // 4)


def _expect_no_loss(trial: Trial) -> None:
    """Nothing that was begun is lost: streams end whole, and no error but a refusal comes."""
    bad = trial.of("cut", "failed")
    codes = Counter(f"{record.outcome} {record.last.status} {record.last.code}" for record in bad)
    trial.expect("nothing begun is lost", not bad, f"{len(bad)} cut or failed {dict(codes)}")


def _expect_known_keys_served(trial: Trial) -> None:
    bad = trial.of("refused", "failed", "cut")
    total = len(trial.of("complete")) + len(bad)
    trial.expect("known keys are served", not bad, f"{total - len(bad)} of {total}")


def _expect_recovery(trial: Trial) -> None:
    worst = trial.worst_recovery_s or 0.0
    trial.expect("serves again without a restart", worst <= RECOVERS_WITHIN_S, f"{worst:.1f} s")


def _expect_tokens_between(trial: Trial, gone_at: float, back_at: float) -> None:
    """What requests for tokens got that began while Redis was away."""
    found: Counter[str] = Counter()
    for record in trial.clients.records:
        if gone_at <= record.attempts[0].started_at < back_at:
            found[f"{record.identity[0]} {record.outcome}"] += 1
    trial.notes["asked for tokens without Redis"] = dict(found)
    asked = sum(count for name, count in found.items() if name.startswith("open"))
    served = sum(found[f"{tenant.name} complete"] for tenant in trial.open)
    trial.expect(
        "tokens served without Redis to whom no sum limits",
        served >= SERVED_SHARE * asked > 0,
        f"{served} of {asked}",
    )


Fault = Callable[[Trial], Awaitable[None]]
Scenario = Callable[[Trial, Size], Awaitable[None]]
SCENARIOS: dict[str, Scenario] = {
    each.__name__: each
    for each in (
        replicas_killed,
        worker_frozen,
        network_cut,
        redis_loses_all,
        redis_gone,
        postgres_restarted,
        postgres_gone,
        gateway_killed,
        mixture,
        all_restarted,
    )
}
