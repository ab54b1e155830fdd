"""Ties the engine's life to the Celery worker's: up before it takes work, drained after."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from celery import bootsteps
from django.conf import settings
from django.db import connection

from inference.engine_protocol import EngineSpec
from inference.wire import queue_of
from tenants.garbage import keep_what_is_here
from workers.engine import probe
from workers.engine.host import EngineHost, ReplicaIdentity
from workers.engines import make_engine

log = logging.getLogger(__name__)

# Weights of hundreds of gigabytes take minutes to load.
START_TIMEOUT_S = 1800.0
_host: EngineHost | None = None


def host() -> EngineHost:
    if _host is None:
        raise RuntimeError("This worker runs no engine: REPLICA_ID is unset.")
    return _host


class EngineStep(bootsteps.StartStopStep):
    """Started after the pool and before the consumer, stopped after the consumer."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)

    def start(self, worker: Any) -> None:
        global _host  # noqa: PLW0603 - one engine a process, as the task's signature demands
        spec, identity = load_spec(settings.REPLICA_DEPLOYMENT, settings.REPLICA_ID)
        _host = EngineHost(make_engine(settings.ENGINE), spec, identity, settings.REDIS_URL)
        probe.serve(_host, settings.WORKER_METRICS_HOST, settings.WORKER_METRICS_PORT)
        log.info("replica.starting", extra={"replica": identity.name, "model": spec.model})
        _host.start(START_TIMEOUT_S)
        if settings.CELERY_BROKER == settings.REDIS_URL:
            # Read by the host itself; Celery's consumer, which starts after this, has none.
            worker.app.amqp.queues._consume_from = {}
            _host.read_queue(queue_of(identity.name))
        keep_what_is_here()

    def stop(self, worker: Any) -> None:
        if _host is not None:
            _host.stop()


def load_spec(deployment_name: str, replica: str) -> tuple[EngineSpec, ReplicaIdentity]:
    """What the registry says this replica runs."""
    from inference.models import Deployment

    deployment = Deployment.objects.select_related("version__model").get(name=deployment_name)
    version = deployment.version
    connection.close()
    spec = EngineSpec(
        model=version.model.name,
        kind=version.model.kind,
        path=str(Path(settings.MODEL_STORE) / version.path),
        dtype=version.dtype,
        max_context_tokens=version.max_context_tokens,
        max_running_requests=deployment.max_running_requests,
        options=version.engine_options,
        tool_parser=version.tool_parser,
        reasoning_parser=version.reasoning_parser,
    )
    return spec, ReplicaIdentity(replica, deployment.pk, version.pk)
