"""The Celery app of every task process.

Interactive batches travel as MessagePack on queue ``replica.<id>``; a message is
acknowledged when taken, because the dispatcher that holds the client supervises
it. Durable work goes to queue ``control``: its rows in PostgreSQL are the truth
and the message is only a wake-up, so losing or repeating one is harmless.
"""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

import msgspec
from celery import Celery
from celery.signals import beat_init, celeryd_init, setup_logging
from kombu import Queue
from kombu.serialization import register

from tenants.scope import Login, Scope, set_process_scope

register(  # type: ignore[no-untyped-call]
    "msgpack",
    msgspec.msgpack.encode,
    msgspec.msgpack.decode,
    content_type="application/x-msgpack",
    content_encoding="binary",
)

app = Celery("sluice")


@setup_logging.connect
def _keep_django_logging(**_: object) -> None:
    """Django has configured logging already; Celery must not replace it."""


@celeryd_init.connect
@beat_init.connect
def _act_as_staff(**_: object) -> None:
    """Background work is for every tenant; the web process, which imports this too, is not."""
    set_process_scope(Scope(login=Login.STAFF))


def _configure() -> None:
    from django.conf import settings

    app.conf.update(
        broker_url=settings.CELERY_BROKER,
        broker_connection_retry_on_startup=True,
        broker_transport_options={
            "visibility_timeout": 3600,
            "socket_timeout": 10,
            "socket_connect_timeout": settings.REDIS_TIMEOUT_S,
            "socket_keepalive": True,
            "health_check_interval": 10,
            # How long one BRPOP waits (kombu's name for it); each costs a worker's whole turn.
            # Not longer, because an idle worker notices a SIGTERM after it.
            "polling_interval": 2,
        },
        task_serializer="msgpack",
        accept_content=["msgpack"],
        task_ignore_result=True,
        task_default_queue="control",
        task_create_missing_queues=True,
        task_send_sent_event=False,
        worker_send_task_events=False,
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        worker_prefetch_multiplier=1,
        task_time_limit=300,
        task_soft_time_limit=240,
        timezone="UTC",
        beat_schedule={
            # Control workers record by themselves, every second; this is for one that cannot.
            "record-usage": {
                "task": "billing.record_usage",
                "schedule": 15.0,
                "options": {"expires": 15},
            },
            "check-spend": {
                "task": "billing.check_spend",
                "schedule": 60.0,
                "options": {"expires": 60},
            },
            "reconcile-holds": {
                "task": "billing.reconcile_holds",
                "schedule": 30.0,
                "options": {"expires": 60},
            },
            "purge-idempotent-requests": {
                "task": "tenants.purge_idempotent_requests",
                "schedule": 600.0,
                "options": {"expires": 600},
            },
            "mirror-replicas": {
                "task": "fleet.mirror_replicas",
                "schedule": 5.0,
                "options": {"expires": 10},
            },
            "sweep-jobs": {
                "task": "jobs.sweep",
                "schedule": 30.0,
                "options": {"expires": 30},
            },
            "purge-jobs": {
                "task": "jobs.purge",
                "schedule": 600.0,
                "options": {"expires": 600},
            },
            "expire-batches": {
                "task": "batches.expire",
                "schedule": 10.0,
                "options": {"expires": 10},
            },
            "sweep-files": {
                "task": "files.sweep",
                "schedule": 60.0,
                "options": {"expires": 60},
            },
            "sweep-answers": {
                "task": "answers.sweep",
                "schedule": 600.0,
                "options": {"expires": 600},
            },
            "expire-background-responses": {
                "task": "answers.expire",
                "schedule": 10.0,
                "options": {"expires": 10},
            },
            "warn-expiring-keys": {
                "task": "tenants.warn_expiring_keys",
                "schedule": 900.0,
                "options": {"expires": 900},
            },
        },
        beat_schedule_filename=str(settings.STATE_DIR / "beat-schedule"),
    )


def _wire() -> None:
    """An engine worker has its one task; every other process has the control tasks."""
    from django.conf import settings

    if settings.REPLICA_ID:
        from inference.wire import queue_of
        from workers.engine.bootstep import EngineStep

        app.steps["worker"].add(EngineStep)
        app.conf.imports = ["workers.engine.tasks"]
        # Interactive: a batch that its worker took and lost is not redelivered late
        # but continued elsewhere at once, so acknowledging it would serve nobody.
        app.conf.task_queues = [Queue(queue_of(settings.REPLICA_ID), no_ack=True)]
    else:
        from workers.control.bootstep import CollectingStep, ProbeStep
        from workers.jobs.bootstep import JobStep

        app.steps["worker"] |= {ProbeStep, CollectingStep, JobStep}
        app.conf.imports = [
            "workers.control.tasks",
            "workers.jobs.tasks",
            "workers.answers.tasks",
            "workers.batches.tasks",
        ]


_configure()
_wire()
