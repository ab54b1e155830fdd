"""Kept answers go when their time is over; background responses end that nobody can make."""

from __future__ import annotations

from celery import shared_task

from inference.answers.ending import end_overdue_responses
from inference.answers.sweep import sweep_answers, trim_answers
from workers.control.tasks import logged_edge


@shared_task(name="answers.sweep", soft_time_limit=240, time_limit=300)
def sweep() -> None:
    with logged_edge("answers.sweep"):
        sweep_answers()
        trim_answers()


@shared_task(name="answers.expire", soft_time_limit=20, time_limit=30)
def expire() -> None:
    with logged_edge("answers.expire"):
        end_overdue_responses()
