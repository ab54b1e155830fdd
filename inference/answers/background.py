"""What programs change of background responses: ask for one, cancel it.

A row of ``BackgroundResponse`` is there until its response has ended, and says who makes it
(``inference.answers.leases``); what the response is lies in its ``StoredAnswer``. Both change in
one transaction, the row of the work locked first.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from inference.answers.actions import keep_answer, record_change
from inference.answers.content import seal, unseal
from inference.answers.locks import lock_work_of
from inference.answers.models import BackgroundResponse, StoredAnswer
from inference.answers.work import State, notify, stop_work
from inference.errors import InvalidRequest
from tenants.errors import TenantError
from tenants.models import ApiKey, Project, User

# Class of the advisory locks under which an organization's open responses are counted.
_COUNT_LOCK = 5_109


class TooManyBackgroundResponses(TenantError):
    status = 429
    code = "too_many_background_responses"
    kind = "rate_limit_error"
    retry_after_s = 5.0


@transaction.atomic
def ask_for_response(
    project: Project,
    *,
    api_key: ApiKey,
    response: Mapping[str, Any],
    items: list[dict[str, Any]],
    request: Mapping[str, Any],
    has_log: bool,
    metadata: Mapping[str, str] | None,
    previous: str,
) -> None:
    """A response that somebody shall make; ``request`` is what it is made from.

    Raises TooManyBackgroundResponses.
    """
    _check_count(project.organization_id)
    answer = keep_answer(
        project,
        api_key=api_key,
        kind=StoredAnswer.Kind.RESPONSE,
        public_id=response["id"],
        model=response["model"],
        content={"input": items, "response": response},
        metadata=metadata,
        previous=previous,
    )
    BackgroundResponse.objects.create(
        public_id=response["id"],
        organization=project.organization,
        project=project,
        api_key=api_key,
        answer=answer,
        request=seal(dict(request)),
        has_log=has_log,
        expires_at=timezone.now() + timedelta(seconds=settings.BACKGROUND_EXPIRY_S),
    )
    notify()


def _check_count(organization: int) -> None:
    """Nobody else of the organization adds one until the transaction ends."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", [_COUNT_LOCK, organization])
    most = settings.BACKGROUND_MAX_OPEN
    if BackgroundResponse.objects.filter(organization=organization).count() >= most:
        raise TooManyBackgroundResponses(
            f"Your organization has {most} background responses queued or in progress; "
            "wait for one to end or cancel one."
        )


@transaction.atomic
def cancel_response(
    answer: StoredAnswer, *, acting_user: User | None, address: str | None = None
) -> dict[str, Any]:
    """The response object. One that has ended stays as it is; twice is once.

    Who makes it is told with the commit, stops its engine, and records what was used by then.
    """
    work = lock_work_of(answer)
    content = unseal(answer.content)
    response: dict[str, Any] = content["response"]
    if not response.get("background"):
        raise InvalidRequest("Cannot cancel a synchronous response.", param="response_id")
    if work is None or work.state == State.CANCELLING:
        return response
    response["status"] = "cancelled"
    answer.content = seal(content)
    answer.save(update_fields=["content"])
    stop_work(work)
    record_change(answer, "answer.cancelled", acting_user, address)
    return response
