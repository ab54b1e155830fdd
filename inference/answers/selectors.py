"""Reads of kept answers, each of one project, and of none that is older than its time."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.db import connection
from django.db.models import QuerySet
from django.utils import timezone

from inference.answers.content import unseal
from inference.answers.models import BackgroundResponse, StoredAnswer
from inference.errors import InvalidRequest
from tenants.errors import NotFound
from tenants.models import Project

# Of one conversation; each turn is a row that must be read and decrypted.
MOST_TURNS = 256
# As stored, which is a third more than was said.
MOST_CONVERSATION_BYTES = 32 * 1024 * 1024
_CHAIN = """
WITH RECURSIVE chain AS (
    SELECT public_id, previous, content, octet_length(content) AS size, 1 AS depth
    FROM inference_storedanswer
    WHERE public_id = %(id)s AND kind = 'response'
      AND project_id = %(project)s AND created_at > %(since)s
  UNION ALL
    SELECT before.public_id, before.previous, before.content, chain.size + octet_length(before.content),
           chain.depth + 1
    FROM chain JOIN inference_storedanswer AS before ON before.public_id = chain.previous
    WHERE before.kind = 'response' AND chain.depth <= %(most)s
      AND chain.size <= %(most_bytes)s
      AND before.project_id = %(project)s AND before.created_at > %(since)s
)
SELECT previous, content, size FROM chain ORDER BY depth DESC
"""


def kept_since(project: Project) -> datetime:
    """What is older has expired, whether or not it was swept."""
    return timezone.now() - timedelta(days=project.organization.answers_kept_days)


def get_answers(project: Project, kind: str) -> QuerySet[StoredAnswer]:
    since = kept_since(project)
    return StoredAnswer.objects.filter(project=project, kind=kind, created_at__gt=since)


def access_answer(project: Project, kind: str, public_id: str) -> StoredAnswer:
    """NotFound for what is not there, has expired, or is another project's."""
    row = get_answers(project, kind).filter(public_id=public_id).first()
    if row is None:
        noun = StoredAnswer.Kind(kind).label.lower()
        raise NotFound(f"No {noun} was found with the id '{public_id[:64]}'.", param="id")
    return row


def get_response(project: Project, public_id: str) -> dict[str, Any]:
    """The content of a response; while somebody makes it, its status is ``in_progress``."""
    answer = access_answer(project, StoredAnswer.Kind.RESPONSE, public_id)
    content = unseal(answer.content)
    response = content["response"]
    if response["status"] == "queued":
        running = BackgroundResponse.objects.filter(answer=answer.pk).exclude(
            state=BackgroundResponse.State.QUEUED
        )
        response["status"] = "in_progress" if running.exists() else "queued"
    return content


def has_work(answer: StoredAnswer) -> bool:
    """Whether somebody still has to end it."""
    return BackgroundResponse.objects.filter(answer=answer.pk).exists()


def get_turns(project: Project, public_id: str) -> list[dict[str, Any]]:
    """The contents of a response and of all that it follows, oldest first.

    Raises InvalidRequest if any of them is gone or has no answer (yet): a conversation with a
    hole is another one.
    """
    wanted: dict[str, str | int | datetime] = {
        "id": public_id,
        "project": project.pk,
        "since": kept_since(project),
        "most": MOST_TURNS,
        "most_bytes": MOST_CONVERSATION_BYTES,
    }
    with connection.cursor() as cursor:
        cursor.execute(_CHAIN, wanted)
        rows = cursor.fetchall()
    if len(rows) > MOST_TURNS or (rows and rows[0][2] > MOST_CONVERSATION_BYTES):
        raise InvalidRequest(
            f"A conversation has at most {MOST_TURNS} turns and {MOST_CONVERSATION_BYTES} bytes.",
            param="previous_response_id",
        )
    if not rows or rows[0][0]:
        error = InvalidRequest(
            f"Previous response with id '{(rows[0][0] if rows else public_id)[:64]}' not found.",
            param="previous_response_id",
        )
        error.code = "previous_response_not_found"
        raise error
    turns = [unseal(content) for _, content, _ in rows]
    for turn in turns:
        _check_said(turn.get("response", {}))
    return turns


def _check_said(response: dict[str, Any]) -> None:
    """What was never said cannot be followed."""
    if response.get("status") in ("queued", "in_progress", "failed"):
        error = InvalidRequest(
            f"Previous response with id '{response['id']}' has the status "
            f"'{response['status']}'; it can be followed when it has an answer.",
            param="previous_response_id",
        )
        error.code = "previous_response_not_completed"
        raise error
