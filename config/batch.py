"""The batch process: ``python -m config.batch``. It runs the lines of batches, and makes
responses that nobody waits for.

It has a gateway of its own and so the same steps, replicas and limits as live requests, and
serves nothing but its health and metrics.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

import django

django.setup()

import uvloop
from django.conf import settings

import config.celery  # noqa: F401 - makes the Celery app current, for the dispatcher
from api.batches.executor import Executor
from api.gateway import start_gateway
from api.responses.executor import BackgroundExecutor
from tenants.scope import Login, Scope, set_process_scope
from workers.engine import probe


async def main() -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    gateway = await start_gateway()
    owner = f"{socket.gethostname()}:{os.getpid()}"
    executor = Executor(gateway, owner)
    background = BackgroundExecutor(gateway, executor.reports, owner)
    probe.serve(executor, settings.WORKER_METRICS_HOST, settings.WORKER_METRICS_PORT)
    await asyncio.gather(executor.run(stop), background.run(stop))
    await gateway.stop()


if __name__ == "__main__":
    # Background work is for every tenant, as in the control worker.
    set_process_scope(Scope(login=Login.STAFF))
    uvloop.run(main())
