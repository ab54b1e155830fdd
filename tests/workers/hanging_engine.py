"""A worker whose engine makes some tokens and then none; run by ``test_host`` as a process."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from django.conf import settings

from config.celery import app
from inference.engine_protocol import EngineSpec
from tests.workers.factory import make_submission
from workers.engine import liveness
from workers.engine.host import EngineHost, ReplicaIdentity
from workers.engines.simulated import Profile, SimulatedEngine

CAPACITY, WAITING = 4, 2


class HangingEngine(SimulatedEngine):
    steps = 0

    async def start(self, *args: Any) -> None:
        await super().start(*args)
        self._profile = Profile(decode_ms=10.0)

    async def _step(self, began: float) -> float:
        self.steps += 1
        if self.steps == 5:
            await asyncio.Event().wait()
        return await super()._step(began)


def main() -> None:
    app.loader.import_default_modules()  # sets Django up, as a worker's start does
    # The bounds themselves are tested with a clock of their own (test_liveness).
    liveness.UNPROVEN_S, liveness.DEAD_S = 1.5, 4.0
    spec = EngineSpec("tiny", "chat", "", "auto", 128, CAPACITY)
    host = EngineHost(HangingEngine(), spec, ReplicaIdentity("chat-1", 1, 1), settings.REDIS_URL)
    host.start(30)
    host.accept(
        [
            make_submission(incarnation=host.incarnation, max_tokens=100)
            for _ in range(CAPACITY + WAITING)
        ]
    )
    time.sleep(30)  # the host ends this process long before


if __name__ == "__main__":
    main()
