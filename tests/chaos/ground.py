"""The whole platform on databases of its own that may die, and Redis behind a proxy."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psutil
import redis.asyncio

from deploy.local import postgres
from deploy.local.processes import is_alive
from tests.harness.own_valkey import OwnValkey
from tests.harness.platform import Platform
from tests.workers.proxy import Proxy

T = TypeVar("T")
# About what a small model on a GPU does: an answer of 40 tokens takes 0.9 s.
PROFILE = {"prefill_tokens_per_s": 20_000, "decode_ms": 20.0, "decode_ms_per_running": 0.05}
_SEED = "from tests.chaos.seed import seed; seed()"


@dataclass(frozen=True)
class Tenant:
    """An organization with its keys; ``limit`` is the number that its name speaks of."""

    name: str
    pk: int
    keys: tuple[str, ...]
    limit: int = 0


class ProcessGone(Exception):
    """It died of something else, and its supervisor is about to start it again."""


class Ground:
    """``start``, then the faults' hands: everything here that blocks does so on a thread."""

    def __init__(self, *, engine: str = "simulated", gateways: int = 2, replicas: int = 3):
        self.engine, self.gateways, self.replicas = engine, gateways, replicas
        self.tenants: dict[str, Tenant] = {}
        self._folder = Path(tempfile.mkdtemp(prefix="sluice-chaos-"))

    async def start(self) -> None:
        self._folder.chmod(0o755)  # PostgreSQL runs as another user when we are root
        self.valkey = await asyncio.to_thread(OwnValkey, self._folder)
        await asyncio.to_thread(postgres.start, self._folder)
        self.proxy = Proxy(self.valkey.url)
        await self.proxy.mend()
        profile = self._folder / "profile.json"
        profile.write_text(json.dumps(PROFILE))
        self.platform = Platform(
            **postgres.addresses(self._folder),
            REDIS_URL=self.proxy.url,
            ENGINE=self.engine,
            SIMULATED_PROFILE=str(profile),
            CHAT_REPLICAS=str(self.replicas),
            WEB_PROCESSES=str(self.gateways),
        )
        await asyncio.to_thread(self.platform.start)
        seeded = await asyncio.to_thread(
            self.platform.manage, "shell", "--no-imports", "--verbosity=0", "-c", _SEED
        )
        for name, pk, keys, limit in json.loads(seeded.strip().splitlines()[-1]):
            self.tenants[name] = Tenant(name, pk, tuple(keys), limit)

    async def stop(self, logs: Path | None = None) -> None:
        """Take it down; ``logs`` is a folder that keeps its processes' logs."""
        if hasattr(self, "platform"):
            if logs is not None:
                shutil.copytree(self.platform.state_dir / "logs", logs, dirs_exist_ok=True)
            await asyncio.to_thread(self.platform.stop)
        if hasattr(self, "proxy"):
            await self.proxy.cut()
        await asyncio.to_thread(postgres.stop, self._folder)
        if hasattr(self, "valkey"):
            await asyncio.to_thread(self.valkey.stop)
        postgres.remove(self._folder)
        shutil.rmtree(self._folder, ignore_errors=True)

    # --- Its processes -------------------------------------------------------------------

    @property
    def gateway_names(self) -> list[str]:
        return ["web", *(f"web-{number}" for number in range(2, self.gateways + 1))]

    @property
    def replica_names(self) -> list[str]:
        return [f"chat-{number}" for number in range(1, self.replicas + 1)]

    def signal(self, name: str, number: signal.Signals) -> int:
        """Send a signal to a process by its name; its process id."""
        pid = self.platform.pid(name)
        if not pid:
            raise ProcessGone(name)
        try:
            os.kill(pid, number)
        except ProcessLookupError:  # its supervisor has not said so yet
            raise ProcessGone(name) from None
        return pid

    def engine_process(self, replica: str) -> psutil.Process:
        """vLLM's EngineCore: the child of its worker that computes."""
        worker = psutil.Process(self.platform.pid(replica))
        for child in worker.children(recursive=True):
            if "EngineCore" in " ".join(child.cmdline()):
                return child
        raise LookupError(f"{replica} has no EngineCore among its children")

    async def is_ready(self, name: str) -> bool:
        """By the process's own page."""
        port = json.loads((self.platform.state_dir / "ports.json").read_text())[name]
        try:
            async with asyncio.timeout(2):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(
                    b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
                )
                status = await reader.readline()
                writer.close()
        except (OSError, TimeoutError):
            return False
        return b" 200 " in status

    async def all_ready(self, timeout_s: float = 90.0, *, but: tuple[str, ...] = ()) -> float:
        """Wait until every gateway and replica says so; how many seconds that took."""
        began = time.monotonic()
        for name in [*self.gateway_names, *self.replica_names]:
            if name not in but:
                await until(lambda name=name: self.is_ready(name), timeout_s)  # type: ignore[misc]
        return time.monotonic() - began

    # --- Its databases -------------------------------------------------------------------

    async def kill_valkey(self, *, loses_data: bool) -> None:
        await asyncio.to_thread(self.valkey.kill, loses_data=loses_data)

    async def start_valkey(self) -> None:
        await asyncio.to_thread(self.valkey.restart)

    async def stop_postgres(self, number: signal.Signals) -> None:
        """End the server itself: SIGINT is its fast shutdown, SIGQUIT its crash."""
        pid = await asyncio.to_thread(postgres.pid, self._folder)
        assert pid is not None
        os.kill(pid, number)
        await until(lambda: _done(not is_alive(pid)), 30)

    async def start_postgres(self) -> None:
        await asyncio.to_thread(postgres.start, self._folder, may_move=False)

    def redis(self) -> redis.asyncio.Redis:
        """Past the proxy, for looking at what is left."""
        return redis.asyncio.from_url(self.valkey.url)

    async def query(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        return await asyncio.to_thread(self.platform.query, sql, *parameters)

    def bar_worker(self, replica: str) -> None:
        """Cut one worker off from Redis, and nobody else; ``proxy.bar()`` ends it."""
        pid = self.platform.pid(replica)
        if not pid:
            raise ProcessGone(replica)
        process = psutil.Process(pid)

        def is_its(port: int) -> bool:
            try:
                return any(each.laddr.port == port for each in process.net_connections("tcp"))
            except psutil.NoSuchProcess:
                return False

        self.proxy.bar(is_its)


async def _done(answer: bool) -> bool:
    return answer


async def until(condition: Callable[[], Any], timeout_s: float, every_s: float = 0.1) -> None:
    """Wait for an awaitable condition to come true; an assertion after ``timeout_s``."""
    deadline = time.monotonic() + timeout_s
    while not await condition():
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s"
        await asyncio.sleep(every_s)
