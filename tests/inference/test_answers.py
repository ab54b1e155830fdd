"""Kept answers: found in their project and for their time only, and gone with it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from inference.answers.actions import change_metadata, keep_answer
from inference.answers.content import seal, unseal
from inference.answers.models import StoredAnswer
from inference.answers.selectors import MOST_TURNS, access_answer, get_answers, get_turns
from inference.answers.sweep import sweep_answers
from inference.errors import InvalidRequest
from tenants import scope
from tenants.errors import NotFound
from tenants.models import Organization
from tests.cast import Cast

RESPONSE = "response"


def keep(cast: Cast, public_id: str, previous: str = "", **fields: Any) -> StoredAnswer:
    return keep_answer(
        cast.project, api_key=cast.owner_api_key, kind=fields.pop("kind", RESPONSE),
        public_id=public_id, model="m", content=fields or {"input": [public_id]},
        previous=previous,
    )  # fmt: skip


def aged(answer: StoredAnswer, days: float) -> None:
    created_at = timezone.now() - timedelta(days=days)
    StoredAnswer.objects.filter(pk=answer.pk).update(created_at=created_at)


def test_turns_come_oldest_first_and_a_hole_is_named(cast: Cast) -> None:
    with scope.for_organization(cast.organization.pk):
        first, second = keep(cast, "resp_1"), keep(cast, "resp_2", "resp_1")
        keep(cast, "resp_3", "resp_2"), keep(cast, "resp_2b", "resp_1")
        said = [turn["input"] for turn in get_turns(cast.project, "resp_3")]
        assert said == [["resp_1"], ["resp_2"], ["resp_3"]]
        aged(first, 31)
        with pytest.raises(InvalidRequest, match="resp_1") as refused:
            get_turns(cast.project, "resp_3")
        assert refused.value.code == "previous_response_not_found"
        aged(first, 29)
        assert len(get_turns(cast.project, "resp_3")) == 3
        # A response that names itself, or a conversation without end, is no conversation.
        StoredAnswer.objects.filter(pk=first.pk).update(previous=second.public_id)
        with pytest.raises(InvalidRequest, match=str(MOST_TURNS)):
            get_turns(cast.project, "resp_3")


def test_a_kept_completion_is_no_response(cast: Cast) -> None:
    with scope.for_organization(cast.organization.pk):
        keep(cast, "chatcmpl-1", kind="chat.completion")
        with pytest.raises(NotFound):
            access_answer(cast.project, RESPONSE, "chatcmpl-1")
        with pytest.raises(InvalidRequest, match="not found"):
            get_turns(cast.project, "chatcmpl-1")


def test_the_organizations_days_hold_at_once_and_the_sweep_follows(cast: Cast) -> None:
    with scope.for_staff():
        kept, older = keep(cast, "resp_1"), keep(cast, "resp_2")
        aged(older, 8)
        assert get_answers(cast.project, RESPONSE).count() == 2 and sweep_answers() == 0
        Organization.objects.filter(pk=cast.organization.pk).update(answers_kept_days=7)
        cast.project.organization.refresh_from_db()
        assert [each.pk for each in get_answers(cast.project, RESPONSE)] == [kept.pk]
        assert sweep_answers() == 1 and sweep_answers() == 0
        Organization.objects.filter(pk=cast.organization.pk).update(answers_kept_days=0)
        assert sweep_answers() == 1 and not StoredAnswer.objects.exists()


def test_what_was_said_is_not_readable_in_the_row(cast: Cast) -> None:
    content = {"messages": ["a secret"], "completion": {"id": "c"}}
    assert b"secret" not in seal(content) and unseal(seal(content)) == content
    with scope.for_organization(cast.organization.pk):
        row = keep(cast, "c", kind="chat.completion", **content)
        changed = change_metadata(row, {"a": "b"}, acting_user=None)
        assert changed["completion"] == {"id": "c", "metadata": {"a": "b"}}
        row.refresh_from_db()
        assert unseal(row.content) == changed and row.metadata == {"a": "b"}
