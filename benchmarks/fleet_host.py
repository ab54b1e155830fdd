"""Many simulated replicas in one process: ``python -m benchmarks.fleet_host DEPLOYMENT COUNT``.

A replica of an installation is a Celery worker, of which two hundred do not fit on a small
machine. These are the workers' own ``EngineHost``s on the simulated engine, each with its
queue, its mailboxes, its heartbeats and its loop, as gateways see them; only Celery is not
there: each queue is read by a BRPOP of its own over the keys that kombu would name, and
kombu's envelope is opened by hand. So what gateways, Redis and ledger do is real, and what
this process itself costs says nothing about a worker's.
"""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import django
import msgspec

# What ``is_ready`` looks for in this process's log.
READY = "the fleet is ready"
NAME = "simulated-{number}"
WAIT_S = 2
# kombu's queues of one name, by priority; ours are all of the first.
_PRIORITIES = ("", "\x06\x163", "\x06\x166", "\x06\x169")


class _Envelope(msgspec.Struct):
    """Of kombu's virtual transport; what else is in it concerns Celery."""

    body: str


_open = msgspec.json.Decoder(_Envelope).decode


def submissions_in(raw: bytes) -> list[Any]:
    """What a dispatcher sent, out of a message as it lies in a queue."""
    from inference import wire

    (payload,), _kwargs, _embedded = msgspec.msgpack.decode(base64.b64decode(_open(raw).body))
    return wire.decode_submissions(payload)


async def serve(deployment: str, count: int) -> None:
    from django.conf import settings

    from workers.engine.bootstep import START_TIMEOUT_S, load_spec
    from workers.engine.host import EngineHost
    from workers.engines.simulated import SimulatedEngine

    hosts = []
    for number in range(1, count + 1):
        name = NAME.format(number=number)
        spec, identity = await asyncio.to_thread(load_spec, deployment, name)
        hosts.append(EngineHost(SimulatedEngine(), spec, identity, settings.REDIS_URL))
        await asyncio.to_thread(hosts[-1].start, START_TIMEOUT_S)
    reading = [asyncio.create_task(_read_queue(host)) for host in hosts]
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    print(READY, flush=True)
    await stop.wait()
    for task in reading:
        task.cancel()
    with ThreadPoolExecutor(max_workers=count) as pool:
        list(pool.map(lambda host: host.stop(), hosts))


async def _read_queue(host: Any) -> None:
    from django.conf import settings

    from inference import wire
    from tenants.redis_link import RedisLink

    name = host.identity.name
    link = RedisLink(settings.REDIS_URL, timeout_s=WAIT_S + 10, name=f"queue.{name}")
    keys = [wire.queue_of(name) + priority for priority in _PRIORITIES]
    while True:
        found = await link.call("BRPOP", *keys, WAIT_S)
        if found:
            host.accept(submissions_in(found[1]))


def main(arguments: list[str]) -> None:
    deployment, count = arguments
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    django.setup()
    from django.conf import settings

    from tenants.scope import Login, Scope, set_process_scope

    if settings.ENGINE != "simulated":
        sys.exit("The fleet host runs the simulated engine only.")
    set_process_scope(Scope(login=Login.STAFF))
    asyncio.run(serve(deployment, int(count)))


if __name__ == "__main__":
    main(sys.argv[1:])
