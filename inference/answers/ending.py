"""How a background response ends: what it says, what it costs, and who is told, in one
transaction. Whatever dies when, it ends once and is billed once, as its ``usage`` says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.db import transaction

from billing.recording import record_usage
from billing.usage import UsageReport
from inference.answers.content import seal, unseal
from inference.answers.leases import HeldResponse
from inference.answers.locks import lock_overdue_work, lock_work
from inference.answers.models import BackgroundResponse, StoredAnswer
from inference.answers.work import State, end_work

_SWEPT_AT_ONCE = 200


@transaction.atomic
def end_response(
    held: HeldResponse, changes: Mapping[str, Any], usage: UsageReport | None
) -> dict[str, Any] | None:
    """The response as it has ended, of which ``changes`` are the fields that became known.

    None if it is not the holder's any more: then nothing is kept or billed. One that was
    cancelled meanwhile ends as that, with what was made of it, and one that was deleted is
    billed all the same: its events could be read while they came.
    """
    work, answer = lock_work(held.pk, held.token)
    if work is None:
        return None
    if usage is not None:
        record_usage([usage])
    if work.state == State.CANCELLING:
        changes = {**changes, "status": "cancelled", "completed_at": None, "error": None}
    return _end(work, answer, changes)


@transaction.atomic
def end_overdue_responses() -> int:
    """End what has no runner and will have none; returns how many."""
    overdue = lock_overdue_work(_SWEPT_AT_ONCE)
    for work, answer in overdue:
        is_stopped = work.state == State.CANCELLING
        _end(work, answer, {"status": "cancelled"} if is_stopped else expired())
    return len(overdue)


def expired() -> dict[str, Any]:
    """What becomes of a response that is too old."""
    seconds = f"{settings.BACKGROUND_EXPIRY_S:g}"
    message = f"The response did not end within {seconds} seconds of its request."
    return {"status": "failed", "error": {"code": "server_error", "message": message}}


def _end(
    work: BackgroundResponse, answer: StoredAnswer | None, changes: Mapping[str, Any]
) -> dict[str, Any]:
    response: dict[str, Any] = {}
    if answer is not None:
        content = unseal(answer.content)
        response = content["response"]
        response.update(changes)
        answer.content = seal(content)
        answer.save(update_fields=["content"])
    else:
        response.update(changes)
    end_work(work, response["status"])
    return response
