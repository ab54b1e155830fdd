"""Every change to kept answers: keep, relabel, delete. Those that are still to be made are
asked for and cancelled in ``background``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db import transaction

from inference.answers.content import seal, unseal
from inference.answers.locks import lock_work_of
from inference.answers.models import StoredAnswer
from inference.answers.work import stop_work
from tenants import audit
from tenants.models import ApiKey, Project, User


def keep_answer(
    project: Project,
    *,
    api_key: ApiKey,
    kind: str,
    public_id: str,
    model: str,
    content: Mapping[str, Any],
    metadata: Mapping[str, str] | None = None,
    previous: str = "",
) -> StoredAnswer:
    return StoredAnswer.objects.create(
        organization=project.organization,
        project=project,
        api_key=api_key,
        kind=kind,
        public_id=public_id,
        model=model,
        content=seal(dict(content)),
        metadata=dict(metadata) if metadata is not None else None,
        previous=previous,
    )


@transaction.atomic
def change_metadata(
    answer: StoredAnswer,
    metadata: Mapping[str, str] | None,
    *,
    acting_user: User | None,
    address: str | None = None,
) -> dict[str, Any]:
    """The answer's content, which repeats the metadata."""
    locked = StoredAnswer.objects.select_for_update().get(pk=answer.pk)
    content = unseal(locked.content)
    answered = content["completion"]
    answered["metadata"] = dict(metadata) if metadata is not None else None
    locked.metadata, locked.content = answered["metadata"], seal(content)
    locked.save(update_fields=["metadata", "content"])
    record_change(locked, "answer.updated", acting_user, address)
    return content


@transaction.atomic
def delete_answer(
    answer: StoredAnswer, *, acting_user: User | None, address: str | None = None
) -> None:
    """Its content is gone from here on. A conversation that it is a turn of cannot go on, and
    what is still to be made of it is not."""
    work = lock_work_of(answer)
    if work is not None:
        stop_work(work)
    deleted, _ = StoredAnswer.objects.filter(pk=answer.pk).delete()
    if deleted:
        record_change(answer, "answer.deleted", acting_user, address)


def record_change(
    answer: StoredAnswer, action: str, acting_user: User | None, address: str | None
) -> None:
    audit.record_event(
        acting_user=acting_user,
        action=action,
        object_type="answer",
        object_id=answer.public_id,
        organization=answer.organization,
        project=answer.project.public_id,
        before={"kind": answer.kind, "model": answer.model},
        address=address,
    )
