"""Workers are restarted one by one under load, as a deployment does it: nobody notices."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Iterator

import httpx
import pytest

from inference import wire
from tests.harness.platform import CHAT_MODEL, Platform, wait_for

STREAMS = 12
TOKENS = 60
BODY = {
    "model": CHAT_MODEL,
    "messages": [{"role": "user", "content": "Hello, whoever restarts."}],
    "max_tokens": TOKENS,
    "stream": True,
}


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """Two replicas of real Celery workers whose engine takes its time: 2 s an answer."""
    profile = tmp_path_factory.mktemp("profile") / "profile.json"
    profile.write_text(json.dumps({"prefill_tokens_per_s": 20_000, "decode_ms": 30.0}))
    platform = Platform(ENGINE="simulated", CHAT_REPLICAS="2", SIMULATED_PROFILE=str(profile))
    try:
        yield platform.start()
    finally:
        platform.stop()


class Load:
    """Streams one after another, ``STREAMS`` at a time, until ``stop``."""

    def __init__(self, platform: Platform):
        self.answers: list[str] = []
        self._platform = platform
        self._is_stopping = False

    async def run(self) -> None:
        async with self._client() as client:
            await asyncio.gather(*(self._stream_on(client) for _ in range(STREAMS)))

    def stop(self) -> None:
        self._is_stopping = True

    def _client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=self._platform.url,
            headers={"Authorization": f"Bearer {self._platform.key}"},
            timeout=60,
        )

    async def _stream_on(self, client: httpx.AsyncClient) -> None:
        while not self._is_stopping:
            self.answers.append(await self._one(client))

    async def one(self) -> str:
        """One answer by itself: what the others have to be."""
        async with self._client() as client:
            return await self._one(client)

    async def _one(self, client: httpx.AsyncClient) -> str:
        text = ""
        async with client.stream("POST", "/v1/chat/completions", json=BODY) as response:
            if response.status_code != 200:
                return f"{response.status_code} {(await response.aread()).decode()}"
            async for line in response.aiter_lines():
                if not line.startswith("data: {"):
                    continue
                event = json.loads(line.removeprefix("data: "))
                if "error" in event:
                    return line
                text += "".join(choice["delta"].get("content") or "" for choice in event["choices"])
        return text


def restart(platform: Platform, worker: str) -> None:
    """As a supervisor, a Kubernetes node or a person does it: SIGTERM, and a new one."""
    port = json.loads((platform.state_dir / "ports.json").read_text())[worker]
    before = platform.pid(worker)
    os.kill(before, signal.SIGTERM)
    wait_for(lambda: platform.pid(worker) not in {0, before}, 60)

    def is_ready() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    wait_for(is_ready, 60)


@pytest.mark.timeout(300)
async def test_a_rolling_restart_of_workers_fails_no_request(platform: Platform) -> None:
    load = Load(platform)
    undisturbed = await load.one()
    running = asyncio.create_task(load.run())
    for worker in ("chat-1", "chat-2"):
        await asyncio.sleep(1)
        await asyncio.to_thread(restart, platform, worker)
    load.stop()
    await running

    assert len(load.answers) > 3 * STREAMS
    assert len(undisturbed) > TOKENS
    assert set(load.answers) == {undisturbed}


def beat(platform: Platform, worker: str) -> wire.Heartbeat | None:
    """Its newest one; None while it says nothing, as between two lives."""
    newest = platform.redis().xrevrange(wire.HEARTBEATS, count=20)
    beats = (wire.decode_heartbeat(fields[b"h"]) for _, fields in newest)
    return next((each for each in beats if each.replica == worker), None)


def order(platform: Platform, worker: str, verb: str) -> str:
    """As the staff admin sends it; returns the life that was asked."""
    life = wait_for(lambda: beat(platform, worker), 10).incarnation  # type: ignore[union-attr]
    asked = wire.encode(wire.Order(verb, life))
    platform.redis().xadd(wire.control_of(worker), {b"o": asked})
    return life


def drain_and_restart(platform: Platform, worker: str) -> None:
    def is_now(state: str) -> bool:
        now = beat(platform, worker)
        return now is not None and now.state == state and (state == "ready" or not now.running)

    order(platform, worker, "drain")
    # It finishes what it has, while the load goes on elsewhere.
    wait_for(lambda: is_now("draining"), 30)
    order(platform, worker, "serve")
    wait_for(lambda: is_now("ready"), 30)
    life = order(platform, worker, "restart")
    wait_for(lambda: is_now("ready") and beat(platform, worker).incarnation != life, 90)  # type: ignore[union-attr]


@pytest.mark.timeout(300)
async def test_a_drain_and_a_restart_by_order_fail_no_request(platform: Platform) -> None:
    load = Load(platform)
    undisturbed = await load.one()
    running = asyncio.create_task(load.run())
    await asyncio.sleep(1)
    await asyncio.to_thread(drain_and_restart, platform, "chat-1")
    load.stop()
    await running

    assert len(load.answers) > 2 * STREAMS
    assert set(load.answers) == {undisturbed}


@pytest.mark.timeout(300)
async def test_every_answer_was_recorded_once(platform: Platform) -> None:
    """And with its engine's time: two seconds of steps, shared among those that ran along."""
    rows = platform.query("SELECT count(*), count(DISTINCT request_id) FROM billing_usageevent")
    assert rows[0][0] == rows[0][1] > 3 * STREAMS

    def engine_us() -> int:
        return int(
            platform.query(
                "SELECT coalesce(min(engine_us), 0) FROM billing_usageevent"
                " WHERE status = 'completed' AND endpoint = 'chat.completions'"
            )[0][0]
        )

    assert wait_for(engine_us, 20) > 10_000
