"""Row locks of answers, each taken in one place: the work on an answer before the answer."""

from __future__ import annotations

from django.db.models import Q
from django.db.models.functions import Now

from inference.answers.models import BackgroundResponse, StoredAnswer
from tenants.errors import NotFound

_State = BackgroundResponse.State
_OVERDUE = Q(state=_State.QUEUED, expires_at__lt=Now()) | Q(
    state=_State.CANCELLING, lease_expires_at__lt=Now()
)


def lock_work_of(answer: StoredAnswer) -> BackgroundResponse | None:
    """The work on an answer, if it has not ended. Brings the answer up to date; both are held
    until the transaction ends. Raises NotFound if it was deleted meanwhile."""
    rows = BackgroundResponse.objects.select_for_update(of=("self",))
    work = rows.filter(answer=answer.pk).first()
    found = StoredAnswer.objects.select_for_update(of=("self",)).filter(pk=answer.pk).first()
    if found is None:
        raise NotFound(f"No response was found with the id '{answer.public_id}'.", param="id")
    answer.content = found.content
    return work


def lock_work(pk: int, token: int) -> tuple[BackgroundResponse | None, StoredAnswer | None]:
    """Work that is still held under this token, with its answer unless that was deleted."""
    rows = BackgroundResponse.objects.select_for_update(of=("self",))
    work = rows.filter(pk=pk, fencing_token=token).exclude(state=_State.QUEUED).first()
    return work, None if work is None else _lock_answer(work)


def lock_overdue_work(most: int) -> list[tuple[BackgroundResponse, StoredAnswer | None]]:
    """Work that is past its time and nobody holds, or that is to be stopped and its runner is
    gone. What is locked is being changed, and looked at again."""
    rows = BackgroundResponse.objects.select_for_update(of=("self",), skip_locked=True)
    overdue = rows.filter(_OVERDUE).order_by("pk")[:most]
    return [(work, _lock_answer(work)) for work in overdue]


def _lock_answer(work: BackgroundResponse) -> StoredAnswer | None:
    if work.answer_id is None:
        return None
    return StoredAnswer.objects.select_for_update(of=("self",)).filter(pk=work.answer_id).first()
