"""Batches whose day is over end, and files that nobody sees any more leave the store."""

from __future__ import annotations

from celery import shared_task

from inference.batches.commit import expire_batches
from inference.files.sweep import sweep_files
from inference.uploads.sweep import sweep_uploads
from workers.control.tasks import logged_edge


@shared_task(name="batches.expire", soft_time_limit=20, time_limit=30)
def expire() -> None:
    with logged_edge("batches.expire"):
        expire_batches()


@shared_task(name="files.sweep", soft_time_limit=240, time_limit=300)
def sweep() -> None:
    with logged_edge("files.sweep"):
        sweep_uploads()
        sweep_files()
