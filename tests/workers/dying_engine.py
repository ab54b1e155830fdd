"""A worker whose engine dies of its second sequence; run by ``test_host`` as a process."""

from __future__ import annotations

import time

from django.conf import settings

from config.celery import app
from inference.engine_protocol import EngineSpec
from inference.wire import Submission
from tests.workers.factory import make_submission
from workers.engine.host import EngineHost, ReplicaIdentity
from workers.engines.simulated import SimulatedEngine


class DyingEngine(SimulatedEngine):
    taken = 0

    async def submit(self, submission: Submission) -> None:
        self.taken += 1
        if self.taken == 2:
            raise MemoryError("no block left")


def main() -> None:
    app.loader.import_default_modules()  # sets Django up, as a worker's start does
    spec = EngineSpec("tiny", "chat", "", "auto", 128, 4)
    host = EngineHost(DyingEngine(), spec, ReplicaIdentity("chat-1", 1, 1), settings.REDIS_URL)
    host.start(30)
    host.accept([make_submission(incarnation=host.incarnation) for _ in range(2)])
    time.sleep(30)  # the host ends this process long before


if __name__ == "__main__":
    main()
