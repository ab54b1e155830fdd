"""The row of a response that is still to be made: stopped, ended, and who is told of it."""

from __future__ import annotations

from django.db import connection

from inference.answers.models import BackgroundResponse
from tenants import webhooks

# Its notices tell runners that there is work (an empty payload), or to look at one response.
CHANNEL = "background_responses"
State = BackgroundResponse.State


def stop_work(work: BackgroundResponse) -> None:
    """Of a locked row: nobody shall make this any more. What nobody makes yet has ended."""
    if work.state == State.QUEUED:
        end_work(work, "cancelled")
        return
    work.state = State.CANCELLING
    work.save(update_fields=["state"])
    notify(work.public_id)


def end_work(work: BackgroundResponse, status: str) -> None:
    """In the transaction in which a response ends, once: nothing is left to do."""
    work.delete()
    webhooks.tell(
        work.organization_id,
        f"response.{status}",
        {"id": work.public_id},
        project=work.project_id,
    )


def notify(payload: str = "") -> None:
    """Runners hear it when the transaction commits."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, %s)", [CHANNEL, payload])
