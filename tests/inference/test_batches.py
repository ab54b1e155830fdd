"""Batches on real rows: validated, leased, committed once, cancelled, expired, written."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from billing.actions import add_price
from billing.models import LedgerEntry, UsageEvent
from billing.usage import UsageReport
from inference.batches import actions
from inference.batches.commit import LineResult, commit_results, expire_batches
from inference.batches.lines import (
    MOST_ATTEMPTS,
    HandedBack,
    HeldLine,
    claim_lines,
    get_open_batches,
    hand_back_lines,
    reap_lines,
    renew_lines,
)
from inference.batches.models import Batch, BatchLine
from inference.files import actions as file_actions
from inference.files.models import File
from inference.files.selectors import access_file
from inference.files.sweep import sweep_files
from inference.models import Model
from inference.objects import object_store
from tenants import actions as tenant_actions
from tenants.errors import NotFound
from tenants.models import AuditEvent, Plan, Project
from tenants.webhooks import TYPES
from tests.cast import Cast
from tests.jobs import run_due_jobs
from tests.tenants.receiver import Receiver

CHAT = "/v1/chat/completions"
MODEL = "tiny"


@pytest.fixture(autouse=True)
def _folder(settings: Any, tmp_path: Path) -> None:
    settings.OBJECT_STORE = str(tmp_path / "objects")


@pytest.fixture
def model(db: None) -> Iterator[None]:
    Model.objects.create(name=MODEL, kind=Model.Kind.CHAT)
    add_price(
        MODEL,
        input_micros_per_million=2_000_000,
        cached_input_micros_per_million=1_000_000,
        output_micros_per_million=4_000_000,
        acting_user=None,
    )
    return


def line(number: int, **fields: Any) -> dict[str, Any]:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "?"}]}
    return {"custom_id": f"id-{number}", "method": "POST", "url": CHAT, "body": body} | fields


def upload(cast: Cast, lines: list[Any], purpose: str = "batch") -> File:
    content = "\n".join(each if isinstance(each, str) else json.dumps(each) for each in lines)
    file = file_actions.begin_file(
        cast.project, reserved_bytes=len(content), api_key=cast.owner_api_key, purpose=purpose
    )
    writer = object_store().writer(file.object_key)
    writer.write(content.encode())
    writer.commit()
    return file_actions.finish_file(
        file,
        filename="in.jsonl",
        size=len(content.encode()),
        sha256="",
        expires_at=None,
        acting_user=None,
    )


def make(cast: Cast, lines: list[Any]) -> Batch:
    """A batch that was validated."""
    batch = actions.create_batch(
        cast.project,
        api_key=cast.owner_api_key,
        input_file=upload(cast, lines).public_id,
        endpoint=CHAT,
        acting_user=None,
    )
    assert run_due_jobs() == ["succeeded"]
    batch.refresh_from_db()
    return batch


def claim(most: int = 100, owner: str = "a") -> list[HeldLine]:
    return [held for batch in get_open_batches() for held in claim_lines(batch, owner, most)]


def result(held: HeldLine, is_done: bool = True, text: str = "yes") -> LineResult:
    content = json.dumps({"custom_id": held.custom_id, "answer": text}).encode()
    return LineResult(held, is_done, content, usage_of(held) if is_done else None)


def usage_of(held: HeldLine) -> UsageReport:
    key = held.batch.api_key
    project = Batch.objects.get(pk=held.batch.pk).project_id
    return UsageReport(
        request_id=held.request_id, organization=held.batch.organization, project=project,
        api_key=key, model=MODEL, endpoint="chat.completions", status="completed",
        source="gateway", prompt_tokens=1_000, cached_tokens=0, completion_tokens=500,
        started_at=timezone.now().timestamp(), time_to_first_token_ms=1, duration_ms=2,
        tier="batch",
    )  # fmt: skip


def content_of(public_id: str) -> list[dict[str, Any]]:
    file = File.objects.get(public_id=public_id)
    text = b"".join(object_store().read(file.object_key)).decode()
    assert len(text.encode()) == file.bytes
    return [json.loads(each) for each in text.splitlines()]


def billed() -> tuple[int, int]:
    """Usage rows, and what they cost in the ledger."""
    entries = LedgerEntry.objects.filter(account="receivable")
    return UsageEvent.objects.count(), sum(entry.amount_micros for entry in entries)


# --- From a file to files ----------------------------------------------------------------------


def test_every_line_is_in_one_file_and_in_the_ledger_once(cast: Cast, model: None) -> None:
    batch = make(cast, [line(number) for number in range(5)])
    assert (batch.status, batch.total, batch.model) == ("in_progress", 5, MODEL)
    held = claim()
    assert [each.custom_id for each in held] == [f"id-{number}" for number in range(5)]
    assert commit_results([result(each) for each in held[:3]]) == {each.pk for each in held[:3]}
    batch.refresh_from_db()
    assert (batch.status, batch.completed, batch.failed) == ("in_progress", 3, 0)
    assert commit_results([result(held[3], is_done=False), result(held[4])])
    batch.refresh_from_db()
    assert (batch.status, batch.completed, batch.failed) == ("finalizing", 4, 1)
    assert run_due_jobs() == ["succeeded"]
    batch.refresh_from_db()
    assert (batch.status, batch.input_tokens, batch.output_tokens) == ("completed", 4_000, 2_000)
    assert [each["custom_id"] for each in content_of(batch.output_file)] == [
        "id-0", "id-1", "id-2", "id-4"
    ]  # fmt: skip
    assert [each["custom_id"] for each in content_of(batch.error_file)] == ["id-3"]
    assert not BatchLine.objects.exists()
    # 1,000 prompt and 500 output tokens are 4,000 micro-dollars, and half of it in a batch.
    assert billed() == (4, 4 * 2_000)


def test_blank_lines_are_passed_over_and_places_stay_right(cast: Cast, model: None) -> None:
    make(cast, [line(1), "", "  ", line(4)])
    held = claim()
    assert [each.number for each in held] == [1, 4]
    file = b"".join(object_store().read(held[0].batch.input_key))
    for each in held:
        content = file[each.position : each.position + each.length]
        assert json.loads(content)["custom_id"] == each.custom_id


@pytest.mark.parametrize(
    ("lines", "codes"),
    [
        ([], ["empty_file"]),
        (["", " "], ["empty_file"]),
        ([line(1), "{", line(2), "x"], ["invalid_json_line"] * 2),
        ([line(1), line(2), line(1)], ["duplicate_custom_id"]),
        ([line(1), line(2, body={"model": "other"})], ["mismatched_model"]),
        ([line(1, body={"model": "nobody"})], ["model_not_found"]),
        ([line(1, url="/v1/embeddings")], ["invalid_url"]),
        (["{"] * 150, ["invalid_json_line"] * 100),
    ],
)
def test_what_is_wrong_is_told_by_line(
    cast: Cast, model: None, lines: list[Any], codes: list[str]
) -> None:
    batch = make(cast, lines)
    assert (batch.status, [fault["code"] for fault in batch.errors]) == ("failed", codes)
    assert batch.ended_at is not None and not BatchLine.objects.exists()


def test_numbers_of_lines_and_tokens_are_bounded(cast: Cast, model: None, settings: Any) -> None:
    settings.MAX_BATCH_LINES = 3
    assert make(cast, [line(n) for n in range(4)]).errors[0]["code"] == "too_many_requests"
    assert make(cast, [line(n) for n in range(3)]).status == "in_progress"
    Plan.objects.update(batch_tokens=70)
    fault = make(cast, [line(n) for n in range(3)]).errors[0]
    assert fault["code"] == "token_limit_exceeded" and "of 70 tokens" in fault["message"]


def test_a_key_that_does_not_work_any_more_starts_nothing(cast: Cast, model: None) -> None:
    file = upload(cast, [line(1)])
    batch = actions.create_batch(
        cast.project,
        api_key=cast.owner_api_key,
        input_file=file.public_id,
        endpoint=CHAT,
        acting_user=None,
    )
    tenant_actions.revoke_api_key(cast.owner_api_key, acting_user=cast.owner)
    assert run_due_jobs() == ["succeeded"]
    batch.refresh_from_db()
    assert batch.errors[0]["code"] == "invalid_api_key"


# --- Leases ------------------------------------------------------------------------------------


def let_expire() -> None:
    BatchLine.objects.update(lease_expires_at=timezone.now() - timedelta(seconds=1))


def test_whoever_was_fenced_off_commits_and_bills_nothing(cast: Cast, model: None) -> None:
    """A runner that was frozen comes back late: the other's result counts, and one bill."""
    make(cast, [line(1), line(2)])
    frozen = claim(owner="frozen")
    assert reap_lines() == 0
    let_expire()
    assert reap_lines() == 2
    other = claim(owner="other")
    assert [each.attempts for each in other] == [2, 2]
    assert {each.request_id for each in frozen}.isdisjoint(each.request_id for each in other)
    assert renew_lines(frozen) == {each.pk for each in frozen}
    assert renew_lines(other) == set()
    assert commit_results([result(each, text="late") for each in frozen]) == set()
    assert billed() == (0, 0)
    assert commit_results([result(each) for each in other]) == {each.pk for each in other}
    # Whatever is said twice: once.
    assert commit_results([result(each) for each in other]) == set()
    assert billed() == (2, 4_000)
    hand_back_lines([HandedBack(each) for each in frozen])
    assert set(BatchLine.objects.values_list("state", flat=True)) == {"done"}


def test_a_lease_that_ran_out_unnoticed_still_commits(cast: Cast, model: None) -> None:
    """PostgreSQL was away for longer than a lease, and nobody else took the line."""
    make(cast, [line(1)])
    held = claim()
    let_expire()
    assert commit_results([result(each) for each in held]) == {held[0].pk}


def test_what_is_handed_back_costs_an_attempt_only_if_it_counts(cast: Cast, model: None) -> None:
    make(cast, [line(1), line(2)])
    first, second = claim()
    hand_back_lines([HandedBack(first), HandedBack(second, is_counted=True)])
    again = claim()
    assert [(each.attempts, each.token) for each in again] == [(1, 2), (2, 2)]
    hand_back_lines([HandedBack(again[0], after_s=60)])
    assert claim() == []
    assert MOST_ATTEMPTS == 5


# --- Ends ----------------------------------------------------------------------------------------


def end_by_cancel(batch: Batch) -> None:
    actions.cancel_batch(batch, acting_user=None, address="192.0.2.1")


def end_by_expiry(batch: Batch) -> None:
    assert expire_batches() == []
    Batch.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert expire_batches() == [batch.public_id]


@pytest.mark.parametrize(
    ("end", "status", "code"),
    [
        (end_by_cancel, "cancelled", "batch_cancelled"),
        (end_by_expiry, "expired", "batch_expired"),
    ],
)
def test_finished_lines_stay_and_the_others_say_why(
    cast: Cast, model: None, end: Callable[[Batch], None], status: str, code: str
) -> None:
    batch = make(cast, [line(number) for number in range(4)])
    held = claim()
    commit_results([result(held[0])])
    end(batch)
    # What runs at that moment is neither kept nor billed.
    assert renew_lines(held[1:]) == {each.pk for each in held[1:]}
    assert commit_results([result(held[1])]) == set()
    assert run_due_jobs() == ["succeeded"]
    batch.refresh_from_db()
    assert (batch.status, batch.completed, batch.failed) == (status, 1, 3)
    assert [each["custom_id"] for each in content_of(batch.output_file)] == ["id-0"]
    errors = content_of(batch.error_file)
    assert [(each["custom_id"], each["error"]["code"]) for each in errors] == [
        (f"id-{number}", code) for number in (1, 2, 3)
    ]
    assert billed() == (1, 2_000)


def test_a_batch_that_is_cancelled_while_it_is_validated_starts_nothing(
    cast: Cast, model: None
) -> None:
    file = upload(cast, [line(1)])
    batch = actions.create_batch(
        cast.project,
        api_key=cast.owner_api_key,
        input_file=file.public_id,
        endpoint=CHAT,
        acting_user=None,
    )
    actions.cancel_batch(batch, acting_user=None)
    actions.cancel_batch(batch, acting_user=None)
    assert run_due_jobs() == ["succeeded", "succeeded"]
    batch.refresh_from_db()
    assert (batch.status, batch.total, batch.output_file) == ("cancelled", 0, "")
    with pytest.raises(actions.BatchEnded):
        actions.cancel_batch(batch, acting_user=None)
    events = AuditEvent.objects.filter(object_id=batch.public_id)
    assert sorted(events.values_list("action", flat=True)) == ["batch.cancelled", "batch.created"]


@pytest.mark.parametrize("end", ["completed", "failed", "cancelled", "expired"])
def test_an_end_is_told_to_webhooks_once(cast: Cast, model: None, end: str) -> None:
    with Receiver() as receiver:
        terms = tenant_actions.EndpointTerms(receiver.url, tuple(TYPES))
        tenant_actions.create_webhook(cast.organization, terms, acting_user=None)
        batch = actions.create_batch(
            cast.project,
            api_key=cast.owner_api_key,
            input_file=upload(cast, ["no JSON"] if end == "failed" else [line(1)]).public_id,
            endpoint=CHAT,
            acting_user=None,
        )
        run_due_jobs()
        if end == "completed":
            commit_results([result(each) for each in claim()])
        elif end != "failed":
            {"cancelled": end_by_cancel, "expired": end_by_expiry}[end](batch)
        run_due_jobs()
    batch.refresh_from_db()
    (received,) = receiver.received
    told = json.loads(received.body)
    assert (batch.status, told["type"]) == (end, f"batch.{end}")
    assert told["data"] == {"id": batch.public_id}


# --- Files -----------------------------------------------------------------------------------------


def test_a_file_in_use_stays_and_a_deleted_one_leaves_the_store(
    cast: Cast, model: None, settings: Any
) -> None:
    batch = make(cast, [line(1)])
    file = access_file(cast.project, batch.input_file)
    with pytest.raises(file_actions.FileInUse, match=batch.public_id):
        file_actions.delete_file(file, acting_user=None)
    actions.cancel_batch(batch, acting_user=None)
    run_due_jobs()
    batch.refresh_from_db()
    file_actions.delete_file(file, acting_user=None)
    with pytest.raises(NotFound):
        access_file(cast.project, file.public_id)
    assert sweep_files() == 0, "somebody may still be reading it"
    long_ago = timezone.now() - timedelta(hours=3)
    File.objects.filter(pk=file.pk).update(deleted_at=long_ago)
    begun = file_actions.begin_file(cast.project, reserved_bytes=1, api_key=None, purpose="batch")
    File.objects.filter(pk=begun.pk).update(created_at=long_ago)
    File.objects.filter(public_id=batch.error_file).update(expires_at=long_ago)
    assert sweep_files() == 3 and sweep_files() == 0
    assert not File.objects.exists()
    assert [path for path in Path(settings.OBJECT_STORE).rglob("*") if path.is_file()] == []


def test_the_plan_bounds_what_is_stored(cast: Cast) -> None:
    Plan.objects.update(stored_bytes=100)
    project = Project.objects.get(pk=cast.project.pk)
    first = file_actions.begin_file(project, reserved_bytes=60, api_key=None, purpose="batch")
    with pytest.raises(file_actions.StorageQuotaExceeded, match="stores 60 bytes"):
        file_actions.begin_file(project, reserved_bytes=41, api_key=None, purpose="batch")
    file_actions.give_up_file(first)
    file_actions.begin_file(project, reserved_bytes=100, api_key=None, purpose="batch")
    with pytest.raises(NotFound):
        file_actions.finish_file(
            first, filename="x", size=1, sha256="", expires_at=None, acting_user=None
        )


def test_files_and_batches_of_others_are_absent(cast: Cast, model: None) -> None:
    batch = make(cast, [line(1)])
    with pytest.raises(NotFound):
        access_file(cast.other_project, batch.input_file)
    with pytest.raises(NotFound) as refused:
        actions.create_batch(
            cast.other_project,
            api_key=cast.stranger_api_key,
            input_file=batch.input_file,
            endpoint=CHAT,
            acting_user=None,
        )
    assert refused.value.param == "input_file_id"
    assert Batch.objects.count() == 1


def test_claims_and_commits_take_few_statements(
    cast: Cast, model: None, django_assert_max_num_queries: Any
) -> None:
    make(cast, [line(number) for number in range(50)])
    with django_assert_max_num_queries(2):
        held = claim()
    results = [result(each) for each in held]
    with django_assert_max_num_queries(20):
        commit_results(results)
