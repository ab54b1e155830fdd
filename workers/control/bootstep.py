"""What lives as long as the control worker: its health page, and the collector of usage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery import bootsteps
from django.conf import settings

from workers.engine import probe

if TYPE_CHECKING:
    from workers.control.collecting import Collecting


class ProbeStep(bootsteps.StartStopStep):
    """Started before the consumer, whose start returns only when the worker ends.

    With the threads pool the tasks count in this process, whose metrics these are; a
    prefork pool's children would count where nobody looks.
    """

    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        self._probed = _ControlWorker(worker)

    def start(self, worker: Any) -> None:
        probe.serve(self._probed, settings.WORKER_METRICS_HOST, settings.WORKER_METRICS_PORT)


class CollectingStep(bootsteps.StartStopStep):
    """Started before the consumer and independent of it: usage is recorded while the broker
    is away, if that is another Redis."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        self._collecting: Collecting | None = None

    def start(self, worker: Any) -> None:
        # It needs models, which are there once Celery has set Django up.
        from workers.control.collecting import Collecting

        self._collecting = Collecting()
        self._collecting.start()

    def stop(self, worker: Any) -> None:
        if self._collecting is not None:
            self._collecting.stop()


class _ControlWorker:
    """Ready while it has a consumer on the broker; Celery takes it away when that is lost."""

    def __init__(self, worker: Any):
        self._worker = worker

    @property
    def state(self) -> str:
        consumer = getattr(self._worker, "consumer", None)
        is_connected = getattr(consumer, "task_consumer", None) is not None
        return "ready" if is_connected else "starting"
