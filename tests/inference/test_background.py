"""Background responses on real rows: leased, ended once, billed once, cancelled, expired."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from billing.actions import add_price
from billing.models import LedgerEntry, UsageEvent
from billing.usage import UsageReport
from inference.answers import actions
from inference.answers.background import (
    TooManyBackgroundResponses,
    ask_for_response,
    cancel_response,
)
from inference.answers.ending import end_overdue_responses, end_response
from inference.answers.leases import (
    HeldResponse,
    claim_responses,
    hand_back_response,
    reap_responses,
    renew_responses,
)
from inference.answers.models import BackgroundResponse, StoredAnswer
from inference.answers.selectors import access_answer, get_response
from inference.answers.sweep import trim_answers
from inference.models import Model
from tenants import scope
from tenants.models import WebhookEndpoint, WebhookEvent
from tests.cast import Cast
from tests.tenants.race import at_once, refused

MODEL = "tiny"


@pytest.fixture
def model(db: None) -> None:
    Model.objects.create(name=MODEL, kind=Model.Kind.CHAT)
    add_price(
        MODEL,
        input_micros_per_million=1_000_000,
        cached_input_micros_per_million=1_000_000,
        output_micros_per_million=1_000_000,
        acting_user=None,
    )


def ask(cast: Cast, public_id: str, *, is_strangers: bool = False) -> None:
    key = cast.stranger_api_key if is_strangers else cast.owner_api_key
    project = key.project
    assert project is not None
    response = {"id": public_id, "model": MODEL, "status": "queued", "background": True}
    with scope.for_organization(project.organization_id):
        ask_for_response(
            project,
            api_key=key,
            response={**response, "output": [], "usage": None},
            items=[],
            request={"body": "{}"},
            has_log=False,
            metadata=None,
            previous="",
        )


def claim(most: int = 100, owner: str = "a") -> list[HeldResponse]:
    return claim_responses(owner, most)


def usage(held: HeldResponse, tokens: int = 7) -> UsageReport:
    work = BackgroundResponse.objects.get(pk=held.pk)
    return UsageReport(
        request_id=held.request_id,
        organization=held.organization,
        project=work.project_id,
        api_key=held.api_key,
        model=MODEL,
        endpoint="responses",
        status="completed",
        source="gateway",
        prompt_tokens=3,
        cached_tokens=0,
        completion_tokens=tokens,
        started_at=timezone.now().timestamp(),
        time_to_first_token_ms=1,
        duration_ms=2,
        replica="r",
    )


DONE: dict[str, Any] = {"status": "completed", "output": [{"id": "msg_1"}], "usage": {"n": 7}}


def status(cast: Cast, public_id: str = "resp_1") -> str:
    with scope.for_organization(cast.organization.pk):
        return str(get_response(cast.project, public_id)["response"]["status"])


def answer(cast: Cast, public_id: str = "resp_1") -> StoredAnswer:
    return access_answer(cast.project, "response", public_id)


def test_it_ends_once_with_its_bill_and_is_told(cast: Cast, model: None) -> None:
    WebhookEndpoint.objects.create(
        organization=cast.organization, url="https://example.org/", secret_encrypted=b"",
        events=["response.completed"],
    )  # fmt: skip
    ask(cast, "resp_1")
    assert status(cast) == "queued"
    (held,) = claim()
    assert status(cast) == "in_progress"
    report = usage(held)
    final = end_response(held, DONE, report)
    assert final is not None and final["status"] == status(cast) == "completed"
    assert end_response(held, {**DONE, "status": "failed"}, report) is None
    assert status(cast) == "completed"
    assert not BackgroundResponse.objects.exists()
    assert [event.completion_tokens for event in UsageEvent.objects.all()] == [7]
    assert sum(entry.amount_micros for entry in LedgerEntry.objects.all()) == 0
    assert [event.data for event in WebhookEvent.objects.all()] == [{"id": "resp_1"}]


def test_who_lost_the_lease_ends_and_bills_nothing(cast: Cast, model: None) -> None:
    ask(cast, "resp_1")
    (first,) = claim()
    report = usage(first)
    BackgroundResponse.objects.update(lease_expires_at=timezone.now() - timedelta(seconds=1))
    assert reap_responses() == 1
    # Back in line is lost already, whether or not somebody else has it.
    assert end_response(first, DONE, report) is None
    (second,) = claim(owner="b")
    assert (second.token, second.attempts) == (2, 2)
    assert second.request_id != first.request_id
    assert renew_responses([first]) == (set(), {first.pk})
    assert not hand_back_response(first, is_counted=False)
    assert end_response(first, DONE, report) is None
    assert not UsageEvent.objects.exists() and status(cast) == "in_progress"
    assert end_response(second, DONE, usage(second, 5)) is not None
    assert [event.completion_tokens for event in UsageEvent.objects.all()] == [5]


def test_what_is_handed_back_costs_an_attempt_or_none(cast: Cast) -> None:
    ask(cast, "resp_1")
    (held,) = claim()
    assert hand_back_response(held, is_counted=False)
    (held,) = claim()
    assert held.attempts == 1
    assert hand_back_response(held, 60.0, is_counted=True)
    assert claim() == [], "it waits for a minute"
    BackgroundResponse.objects.update(run_after=timezone.now())
    assert claim()[0].attempts == 2


def test_who_has_the_fewest_is_next(cast: Cast) -> None:
    for number in range(4):
        ask(cast, f"resp_{number}")
    ask(cast, "resp_theirs", is_strangers=True)
    assert [held.public_id for held in claim(1)] == ["resp_0"]
    assert [held.public_id for held in claim(1)] == ["resp_theirs"]
    assert [held.public_id for held in claim()] == ["resp_1", "resp_2", "resp_3"]


def test_one_that_is_cancelled_while_it_ends_is_cancelled_and_paid(cast: Cast, model: None) -> None:
    ask(cast, "resp_1")
    (held,) = claim()
    report = usage(held)
    response = cancel_response(answer(cast), acting_user=None)
    assert response["status"] == status(cast) == "cancelled"
    assert renew_responses([held]) == ({held.pk}, set())
    assert not hand_back_response(held, is_counted=True), "nobody shall make it"
    assert cancel_response(answer(cast), acting_user=None)["status"] == "cancelled"
    final = end_response(held, DONE, report)
    assert final is not None
    assert (final["status"], final["usage"]) == ("cancelled", {"n": 7})
    assert [event.completion_tokens for event in UsageEvent.objects.all()] == [7]


def test_one_that_nobody_makes_is_cancelled_at_once(cast: Cast) -> None:
    ask(cast, "resp_1")
    cancel_response(answer(cast), acting_user=None)
    assert status(cast) == "cancelled" and claim() == []
    assert not BackgroundResponse.objects.exists()


def test_one_that_is_deleted_is_paid_and_gone(cast: Cast, model: None) -> None:
    ask(cast, "resp_1")
    (held,) = claim()
    report = usage(held)
    actions.delete_answer(answer(cast), acting_user=None)
    assert renew_responses([held]) == ({held.pk}, set())
    assert end_response(held, DONE, report) is not None
    assert not StoredAnswer.objects.exists() and not BackgroundResponse.objects.exists()
    assert UsageEvent.objects.count() == 1


def test_what_is_too_old_fails_and_what_was_to_be_stopped_is(cast: Cast) -> None:
    ask(cast, "resp_1"), ask(cast, "resp_2"), ask(cast, "resp_3")
    (held,) = claim(1)
    cancel_response(answer(cast, held.public_id), acting_user=None)
    past = timezone.now() - timedelta(seconds=1)
    BackgroundResponse.objects.filter(public_id="resp_2").update(expires_at=past)
    assert end_overdue_responses() == 1
    assert status(cast, "resp_2") == "failed" and status(cast, "resp_3") == "queued"
    with scope.for_organization(cast.organization.pk):
        error = get_response(cast.project, "resp_2")["response"]["error"]
    assert error["code"] == "server_error" and "3600 seconds" in error["message"]
    # Its runner lives, and will say what was used; a dead one will not.
    BackgroundResponse.objects.filter(pk=held.pk).update(lease_expires_at=past)
    assert end_overdue_responses() == 1 and status(cast) == "cancelled"


@pytest.mark.django_db(transaction=True)
def test_no_more_are_open_than_may_be_whoever_asks_at_once(cast: Cast, settings: Any) -> None:
    settings.BACKGROUND_MAX_OPEN = 3
    outcomes = at_once(*(lambda number=number: ask(cast, f"resp_{number}") for number in range(6)))
    assert len(refused(outcomes)) == 3 and BackgroundResponse.objects.count() == 3
    assert all(isinstance(each, TooManyBackgroundResponses) for each in refused(outcomes))
    ask(cast, "resp_theirs", is_strangers=True)


def test_the_oldest_answers_go_where_there_are_too_many(cast: Cast, settings: Any) -> None:
    ask(cast, "resp_0")
    with scope.for_organization(cast.organization.pk):
        for number in range(1, 6):
            actions.keep_answer(
                cast.project, api_key=cast.owner_api_key, kind="response",
                public_id=f"resp_{number}", model=MODEL, content={"said": "x" * 1000},
            )  # fmt: skip
    size = len(StoredAnswer.objects.get(public_id="resp_5").content)
    settings.ANSWERS_ORGANIZATION_BYTES = 3 * size
    assert trim_answers() == 2 and trim_answers() == 0
    kept = StoredAnswer.objects.order_by("pk").values_list("public_id", flat=True)
    assert list(kept) == ["resp_0", "resp_3", "resp_4", "resp_5"], "not what is still to be made"
