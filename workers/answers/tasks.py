"""Kept answers go when their time is over."""

from __future__ import annotations

from celery import shared_task

from inference.answers.sweep import sweep_answers
from workers.control.tasks import logged_edge


@shared_task(name="answers.sweep", soft_time_limit=240, time_limit=300)
def sweep() -> None:
    with logged_edge("answers.sweep"):
        sweep_answers()
