"""Real Celery workers, killed while they work: no job is lost, none is done twice.

The whole size, 1,000 jobs and 20 kills, is ``CHAOS_JOBS=1000 CHAOS_KILLS=20``. Effects
are rows that a job inserts in the transaction of its end; a second one would be a second
row. Starts are rows of their own, committed at once.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis
from django.conf import settings
from django.db import connection

from tenants import jobs
from tenants.models import Job, Organization
from tests.cast import default_plan
from tests.harness.platform import wait_for
from tests.harness.services import CHECKOUT

JOBS = int(os.environ.get("CHAOS_JOBS", "120"))
KILLS = int(os.environ.get("CHAOS_KILLS", "4"))
REDELIVERED_WITHIN_S = 30.0
APPLICATION = "chaos"  # of the workers' sessions, not of this process's
TABLES = ("chaos_start", "chaos_effect")


def database_url(name: str = "") -> str:
    database = connection.settings_dict
    user = f"{database['USER']}:{database['PASSWORD']}"
    place = f"host={database['HOST']}&port={database['PORT']}"
    return f"postgresql://{user}@/{name or database['NAME']}?{place}"


class Workers:
    """Control workers and the beat of one installation, on the suite's databases."""

    def __init__(self, log: Path, **environment: str) -> None:
        self._log = log
        self._environment = {
            **os.environ,
            "DATABASE_URL": database_url(),
            "DATABASE_WEB_URL": "",
            "DATABASE_STAFF_URL": "",
            "REDIS_URL": settings.REDIS_URL,
            "SLUICE_STATE_DIR": str(log.parent),
            "JOBS_PER_ORGANIZATION": "4",
            "PGAPPNAME": APPLICATION,
            **environment,
        }
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "celery", "-A", "tests.workers.chaos_app", *arguments]
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                command, cwd=CHECKOUT, env=self._environment, stdout=log, stderr=log
            )
        self.processes.append(process)
        return process

    def start_worker(self) -> subprocess.Popen[bytes]:
        return self.start(
            "worker", "-P", "threads", "-c", "4", "-Q", "control", "-n",
            f"control-{len(self.processes)}@%h", "--without-gossip", "--without-mingle",
        )  # fmt: skip

    def start_beat(self) -> subprocess.Popen[bytes]:
        schedule = self._log.parent / f"beat-{len(self.processes)}"
        return self.start("beat", "--pidfile=", f"--schedule={schedule}")

    def log_text(self) -> str:
        return self._log.read_text()

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait(20)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "workers.log"
    print((tmp_path / "workers.log").read_text()[-8000:])


@pytest.fixture
def workers(log: Path, valkey: redis.Redis, effects: None) -> Iterator[Workers]:
    workers = Workers(log)
    yield workers
    workers.stop()


@pytest.fixture
def effects(transactional_db: None) -> Iterator[None]:
    for table in TABLES:
        ask(f"CREATE TABLE {table} (job bigint, token bigint, pid int, at timestamptz)")
        ask(f"GRANT SELECT, INSERT ON {table} TO sluice_web")
    yield
    for table in TABLES:
        ask(f"DROP TABLE {table}")


def ask(sql: str, *parameters: object) -> list[tuple]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchall() if cursor.description else []


def enqueue(count: int, kind: str = "chaos.quick", seconds: float = 0.02) -> None:
    plan = default_plan()
    tenants = [Organization.objects.create(name=f"Tenant {n}", plan=plan) for n in range(5)]
    for number in range(count):
        jobs.enqueue(
            kind, str(number), organization=tenants[number % 5], payload={"seconds": seconds}
        )


def succeeded() -> int:
    return Job.objects.filter(state=Job.State.SUCCEEDED).count()


def check_done_once(count: int) -> None:
    states = dict(ask("SELECT state, count(*) FROM tenants_job GROUP BY 1"))
    assert states == {"succeeded": count}, states
    assert ask("SELECT count(*), count(DISTINCT job) FROM chaos_effect") == [(count, count)]
    # The effect was the newest holder's.
    assert ask(
        "SELECT job FROM chaos_effect JOIN tenants_job ON id = job WHERE token <> fencing_token"
    ) == []  # fmt: skip


def redelivery_s() -> list[float]:
    """For each job that was started more than once: how long until the next start."""
    rows = ask(
        """
        SELECT extract(epoch FROM at - lag(at) OVER (PARTITION BY job ORDER BY token))
        FROM chaos_start
        """
    )
    return [float(gap) for (gap,) in rows if gap is not None]


def test_killed_workers_lose_nothing_and_do_nothing_twice(workers: Workers) -> None:
    enqueue(JOBS)
    workers.start_beat()
    live = [workers.start_worker(), workers.start_worker()]
    wait_for(succeeded, 90)
    for kill in range(KILLS):
        goal = JOBS * (kill + 1) // (KILLS + 2)
        wait_for(lambda goal=goal: succeeded() >= goal, 60, every_s=0.01)
        victim = live.pop(random.randrange(len(live)))
        victim.send_signal(signal.SIGKILL)
        live.append(workers.start_worker())
        if len(live) > 1:
            wait_for(lambda: ask("SELECT 1 FROM tenants_job WHERE state = 'running'"), 30)
    wait_for(lambda: succeeded() == JOBS, 120, every_s=0.2)
    check_done_once(JOBS)
    gaps = redelivery_s()
    told = f"{len(gaps)} redelivered, slowest after {max(gaps, default=0):.1f} s"
    print(f"CHAOS {JOBS} jobs, {KILLS} kills: {told}")
    assert all(gap < REDELIVERED_WITHIN_S for gap in gaps), told


def test_a_job_thrice_the_visibility_timeout_runs_once(
    log: Path, valkey: redis.Redis, effects: None
) -> None:
    workers = Workers(log, CHAOS_VISIBILITY_TIMEOUT_S="2")
    try:
        workers.start_worker(), workers.start_worker(), workers.start_beat()
        enqueue(1, "chaos.long", seconds=6)
        wait_for(lambda: succeeded() == 1, 120)
    finally:
        workers.stop()
    check_done_once(1)
    assert ask("SELECT count(*) FROM chaos_start") == [(1,)]


def test_a_flushed_redis_delays_nothing_for_long(workers: Workers, valkey: redis.Redis) -> None:
    enqueue(JOBS // 2)
    workers.start_beat(), workers.start_worker()
    wait_for(succeeded, 90, every_s=0.01)
    for _ in range(10):
        valkey.flushdb()
        time.sleep(0.05)
    jobs.enqueue("chaos.quick", "late", organization=None, payload={"seconds": 0})
    valkey.flushdb()
    wait_for(lambda: succeeded() == JOBS // 2 + 1, 60)
    check_done_once(JOBS // 2 + 1)


def test_postgresql_away_in_the_middle(workers: Workers) -> None:
    """As in a restart every session of the workers ends and none begins, three times: what
    was not committed is done again, and what was is not."""
    enqueue(JOBS // 2)
    workers.start_beat(), workers.start_worker()
    wait_for(succeeded, 90, every_s=0.01)
    name = connection.settings_dict["NAME"]
    with psycopg.connect(database_url("postgres"), autocommit=True) as maintenance:
        for _ in range(3):
            maintenance.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
            maintenance.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s",
                [APPLICATION],
            )
            time.sleep(1)
            maintenance.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
            time.sleep(0.5)
    wait_for(lambda: succeeded() == JOBS // 2, 90)
    check_done_once(JOBS // 2)


def test_a_worker_that_is_asked_to_stop_hands_its_jobs_back(workers: Workers) -> None:
    enqueue(4, "chaos.long", seconds=8)
    first = workers.start_worker()
    wait_for(lambda: ask("SELECT 1 FROM chaos_start"), 90)
    first.terminate()
    wait_for(lambda: not Job.objects.filter(state="running").exists(), 10)
    assert set(Job.objects.values_list("state", "attempts")) == {("queued", 0)}
    assert first.wait(20) == 0


def test_a_frozen_worker_is_fenced_off(workers: Workers) -> None:
    enqueue(1, "chaos.long", seconds=2)
    workers.start_beat()
    first = workers.start_worker()
    wait_for(lambda: ask("SELECT 1 FROM chaos_start"), 90)
    first.send_signal(signal.SIGSTOP)
    workers.start_worker()
    wait_for(lambda: succeeded() == 1, 120)
    first.send_signal(signal.SIGCONT)
    wait_for(lambda: "job.lost" in workers.log_text(), 20)
    check_done_once(1)
    assert [gap < REDELIVERED_WITHIN_S for gap in redelivery_s()] == [True]
