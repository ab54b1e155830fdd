"""Files and batches on the pages: uploaded, run, followed, cancelled, deleted, by whom."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from inference.batches import actions
from inference.batches.commit import LineResult, commit_results
from inference.batches.lines import claim_lines
from inference.batches.models import Batch
from inference.batches.reading import first_faults
from inference.files.models import File
from inference.models import Model
from inference.objects import object_store
from inference.objects.store import ObjectStoreUnavailable
from portal import edge
from tenants.models import AuditEvent, ProjectMembership
from tests.cast import Cast
from tests.jobs import run_due_jobs
from tests.portal.conftest import log_in

pytestmark = pytest.mark.django_db
CHAT = "/v1/chat/completions"
MODEL = "tiny"


@pytest.fixture(autouse=True)
def _folder(settings: Any, tmp_path: Path) -> None:
    settings.OBJECT_STORE = str(tmp_path / "objects")


@pytest.fixture(autouse=True)
def _model(db: None) -> None:
    Model.objects.create(name=MODEL, kind=Model.Kind.CHAT)


def url(cast: Cast, path: str) -> str:
    return f"/o/{cast.organization.public_id}/{path}"


def line(number: int, **fields: Any) -> str:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "?"}]}
    request = {"custom_id": f"id-{number}", "method": "POST", "url": CHAT, "body": body}
    return json.dumps(request | fields)


def send(client: Client, cast: Cast, content: str, name: str = "in.jsonl", **fields: str) -> Any:
    file = SimpleUploadedFile(name, content.encode())
    data = {"project": cast.project.public_id, "file": file} | fields
    return client.post(url(cast, "files/upload/"), data)


def upload(cast: Cast, count: int = 3) -> File:
    content = "\n".join(line(number) for number in range(count))
    assert send(log_in(cast.owner), cast, content).status_code == 302
    return File.objects.get(purpose=File.Purpose.BATCH)


def make(cast: Cast, count: int = 3) -> Batch:
    """A batch that runs."""
    batch = actions.create_batch(
        cast.project,
        api_key=cast.owner_api_key,
        input_file=upload(cast, count).public_id,
        endpoint=CHAT,
        acting_user=None,
    )
    assert run_due_jobs() == ["succeeded"]
    batch.refresh_from_db()
    assert batch.status == Batch.Status.IN_PROGRESS
    return batch


def run(batch: Batch) -> None:
    """One line fails, the others are answered; then the files are written."""
    held = claim_lines(batch, "tests", 100)
    error = {"message": "Too <b>long</b>.", "code": "context_length_exceeded"}
    failed = {
        "custom_id": held[0].custom_id,
        "response": {"status_code": 400, "body": {"error": error}},
        "error": None,
    }
    results = [LineResult(held[0], False, json.dumps(failed).encode())]
    results += [LineResult(each, True, b'{"custom_id": "%d"}' % each.pk) for each in held[1:]]
    commit_results(results)


def content_of(response: Any) -> bytes:
    return b"".join(response.streaming_content)


def test_an_upload_is_stored_as_sent_and_audited(cast: Cast) -> None:
    client = log_in(cast.member)
    content = "\n".join(line(number) for number in range(3))
    answer = send(client, cast, content, name="../My <b>requests.jsonl")
    file = File.objects.get()
    assert answer["Location"] == url(cast, f"files/{file.public_id}/")
    assert (file.filename, file.bytes) == ("My <b>requests.jsonl", len(content))
    page = client.get(answer["Location"]).content.decode()
    assert "My &lt;b&gt;requests" in page
    assert "<b>requests" not in page
    download = client.get(url(cast, f"files/{file.public_id}/content/"))
    assert content_of(download) == content.encode()
    assert download["Content-Disposition"].startswith("attachment;")
    assert download["Content-Type"] == "application/octet-stream"
    event = AuditEvent.objects.get(action="file.created")
    assert (event.acting_user, event.object_id) == (cast.member, file.public_id)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "The file is empty."),
        ("\n \n", "The file has no request."),
        (f"{line(1)}\nno json", "This line is not valid JSON."),
        (line(1, method="GET"), "The method is POST."),
        (f"{line(1)}\n{line(2, url='/v1/embeddings')}", "endpoint is /v1/chat/completions"),
        (line(1, custom_id=""), "A custom_id has 1 to 256 characters"),
    ],
)
def test_a_file_of_something_else_is_told_by_line(cast: Cast, content: str, told: str) -> None:
    answer = send(log_in(cast.owner), cast, content)
    assert answer.status_code == 400
    assert told in answer.content.decode()
    assert not File.objects.exists()


def test_only_the_beginning_is_read_but_a_long_first_line_whole() -> None:
    long = line(1, padding="x" * (2 << 20)).encode()
    rest = b"\nno json" * 200_000
    parts = [(long + rest)[at : at + 65_536] for at in range(0, len(long + rest), 65_536)]
    assert first_faults(parts) == []
    endless = (b"x" * 65_536 for _ in range(10_000))
    assert [fault.code for fault in first_faults(endless)] == ["line_too_long"]
    assert next(endless), "what is far too long is not read to its end"
    many = "\n".join(["no json"] * 50).encode()
    assert [fault.line for fault in first_faults([many])] == list(range(1, 21))


def test_a_file_is_held_to_its_size_and_to_the_quota(cast: Cast, settings: Any) -> None:
    client = log_in(cast.owner)
    settings.MAX_FILE_BYTES = 2048
    refused = send(client, cast, "\n".join(line(number) for number in range(40)))
    assert refused.status_code == 400
    assert "too large" in refused.content.decode()
    cast.organization.plan.stored_bytes = 10
    cast.organization.plan.save()
    refused = send(client, cast, line(1))
    assert refused.status_code == 400
    assert "may store 10" in refused.content.decode()
    assert not File.objects.filter(deleted_at=None).exists()


def test_a_file_that_is_used_stays(cast: Cast) -> None:
    batch = make(cast)
    client = log_in(cast.owner)
    address = url(cast, f"files/{batch.input_file}/delete/")
    assert "Delete this file?" in client.get(address).content.decode()
    refused = client.post(address, follow=True).content.decode()
    assert "is reading this file" in refused
    actions.cancel_batch(batch, acting_user=None)
    run_due_jobs()
    assert client.post(address)["Location"] == url(cast, "files/")
    assert client.get(url(cast, f"files/{batch.input_file}/")).status_code == 404
    # The batch tells of it all the same.
    assert batch.input_file in client.get(url(cast, f"batches/{batch.public_id}/")).content.decode()


def form_of(client: Client, cast: Cast, file: File) -> dict[str, str]:
    page = client.get(url(cast, f"batches/new/?file={file.public_id}"))
    form = page.context["form"]
    initial = {name: form[name].value() or "" for name in form.fields}
    return initial | {"key": cast.owner_api_key.public_id}


def test_a_batch_is_made_once_however_often_its_form_is_sent(cast: Cast) -> None:
    file = upload(cast)
    client = log_in(cast.member)
    assert file.filename in client.get(url(cast, "batches/new/")).content.decode()
    form = form_of(client, cast, file)
    assert form["endpoint"] == CHAT
    address = url(cast, f"batches/new/?file={file.public_id}")
    first, second = client.post(address, form), client.post(address, form)
    batch = Batch.objects.get()
    assert first["Location"] == second["Location"] == url(cast, f"batches/{batch.public_id}/")
    assert (batch.api_key, batch.project) == (cast.owner_api_key, cast.project)
    assert AuditEvent.objects.get(action="batch.created").acting_user == cast.member


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("endpoint", "/v1/nothing", "Select a valid choice"),
        ("endpoint", "/v1/embeddings", "This key may not call that endpoint."),
        ("key", "key_unknown", "Select a valid choice"),
        ("form_id", "forged", "This form has expired"),
    ],
)
def test_a_batch_that_cannot_be(cast: Cast, name: str, value: str, told: str) -> None:
    cast.owner_api_key.scopes = ["inference.chat"]
    cast.owner_api_key.save()
    file = upload(cast)
    client = log_in(cast.owner)
    form = form_of(client, cast, file) | {name: value}
    answer = client.post(url(cast, f"batches/new/?file={file.public_id}"), form)
    assert answer.status_code == 400
    assert told in answer.content.decode()
    assert not Batch.objects.exists()


def test_progress_is_asked_for_until_the_end(cast: Cast) -> None:
    batch = make(cast)
    client = log_in(cast.owner)
    page, progress = (url(cast, f"batches/{batch.public_id}/{end}") for end in ("", "progress/"))
    html = client.get(page).content.decode()
    assert f'data-follow="{progress}"' in html
    assert "0 of 3" in html
    assert 'data-follow="' in client.get(url(cast, "batches/")).content.decode()
    run(batch)
    running = client.get(progress).content.decode()
    assert "<html" not in running
    assert "3 of 3" in running
    assert "context_length_exceeded" in running
    assert "Too &lt;b&gt;long" in running
    run_due_jobs()
    batch.refresh_from_db()
    ended = client.get(progress).content.decode()
    assert "data-follow" not in ended
    assert "Completed" in ended
    # Of the file now, as of the rows before.
    assert "context_length_exceeded" in ended
    for file, end in ((batch.output_file, b'{"custom_id"'), (batch.error_file, b'{"custom_id"')):
        assert f"files/{file}/content/" in ended
        assert content_of(client.get(url(cast, f"files/{file}/content/"))).startswith(end)
    assert "data-follow" not in client.get(url(cast, "batches/")).content.decode()


def test_a_batch_that_never_ran_says_why_by_line(cast: Cast) -> None:
    file = upload(cast)
    Model.objects.all().delete()
    batch = actions.create_batch(
        cast.project, api_key=cast.owner_api_key, input_file=file.public_id, endpoint=CHAT,
        acting_user=None,
    )  # fmt: skip
    run_due_jobs()
    html = log_in(cast.viewer).get(url(cast, f"batches/{batch.public_id}/")).content.decode()
    assert "model_not_found" in html
    assert "does not exist or you do not have access" in html


def test_cancelling_asks_first(cast: Cast) -> None:
    batch = make(cast)
    client = log_in(cast.member)
    address = url(cast, f"batches/{batch.public_id}/cancel/")
    assert "Cancel this batch?" in client.get(address).content.decode()
    batch.refresh_from_db()
    assert batch.status == Batch.Status.IN_PROGRESS
    client.post(address)
    run_due_jobs()
    batch.refresh_from_db()
    assert batch.status == Batch.Status.CANCELLED
    assert "Cannot cancel a batch" in client.post(address, follow=True).content.decode()


def test_who_may_see_and_who_may_not_even_know(cast: Cast) -> None:
    batch = make(cast)
    file = batch.input_file
    seen = ["files/", f"files/{file}/", "batches/", f"batches/{batch.public_id}/"]
    used = [
        "files/upload/", f"files/{file}/content/", f"files/{file}/delete/", "batches/new/",
        f"batches/new/?file={file}", f"batches/{batch.public_id}/cancel/",
    ]  # fmt: skip
    expected = {"owner": (200, 200), "member": (200, 200), "viewer": (200, 403),
                "billing": (403, 403), "stranger": (404, 404), "staff": (404, 404)}  # fmt: skip
    for who, (reads, uses) in expected.items():
        client = log_in(getattr(cast, who))
        assert {client.get(url(cast, path)).status_code for path in seen} == {reads}, who
        assert {client.get(url(cast, path)).status_code for path in used} == {uses}, who
    for who in ("viewer", "stranger"):
        client = log_in(getattr(cast, who))
        for path in used[2:]:
            assert client.post(url(cast, path)).status_code == expected[who][1]
        assert send(client, cast, line(1)).status_code == expected[who][1]
    batch.refresh_from_db()
    assert batch.status == Batch.Status.IN_PROGRESS
    assert File.objects.filter(deleted_at=None).count() == 1


def test_by_a_project_only_its_files_are_seen(cast: Cast) -> None:
    """Billing sees nothing until a project is theirs."""
    batch = make(cast)
    ProjectMembership.objects.create(
        organization=cast.organization, project=cast.project, user=cast.billing, role="viewer"
    )
    client = log_in(cast.billing)
    listed = client.get(url(cast, "files/"))
    assert [row["file"].public_id for row in listed.context["files"].rows] == [batch.input_file]
    assert client.get(url(cast, f"files/{batch.input_file}/content/")).status_code == 403


def test_another_organizations_ids_are_absent(cast: Cast) -> None:
    batch = make(cast)
    client = log_in(cast.stranger)
    own = f"/o/{cast.other_organization.public_id}/"
    for path in (f"files/{batch.input_file}/", f"files/{batch.input_file}/content/",
                 f"batches/{batch.public_id}/", f"batches/new/?file={batch.input_file}"):  # fmt: skip
        assert client.get(own + path).status_code == 404


def test_suspended_organizations_start_nothing(cast: Cast) -> None:
    client = log_in(cast.suspended)
    base = f"/o/{cast.suspended_organization.public_id}/"
    project = cast.suspended_organization.projects.get().public_id
    sent = {"project": project, "file": SimpleUploadedFile("a.jsonl", line(1).encode())}
    assert client.post(f"{base}files/upload/", sent).status_code == 403
    assert not File.objects.exists()
    assert client.get(f"{base}batches/").status_code == 200


def test_a_store_that_is_away_is_told_calmly(cast: Cast, monkeypatch: Any) -> None:
    batch = make(cast)

    def away(*args: Any) -> Any:
        raise ObjectStoreUnavailable("Files cannot be read right now.")

    client = log_in(cast.owner)
    monkeypatch.setattr(type(object_store()), "read", away)
    shown = client.get(url(cast, f"files/{batch.input_file}/content/"), follow=True)
    assert "Files cannot be read right now." in shown.content.decode()
    assert client.get(url(cast, f"batches/new/?file={batch.input_file}")).status_code == 200
    monkeypatch.setattr(type(object_store()), "writer", away)
    refused = send(client, cast, line(9))
    assert refused.status_code == 400
    assert File.objects.filter(deleted_at=None).count() == 1


@pytest.mark.parametrize("path", ["files/", "batches/"])
def test_lists_ask_the_same_however_long_they_are(cast: Cast, path: str) -> None:
    client = log_in(cast.owner)
    make(cast)
    client.get(url(cast, path))
    counts = []
    for _ in range(2):
        with CaptureQueriesContext(
            connection,
        ) as queries:
            assert client.get(url(cast, path)).status_code == 200
        counts.append(len(queries))
        file = File.objects.get(purpose=File.Purpose.BATCH, deleted_at=None, filename="in.jsonl")
        for _ in range(5):
            actions.create_batch(
                cast.project, api_key=cast.owner_api_key, input_file=file.public_id,
                endpoint=CHAT, acting_user=None,
            )  # fmt: skip
    assert counts[0] == counts[1] <= 14


@pytest.mark.parametrize("query", ["q=\x00", "project=nobody", "status=%00&purpose=x", "page=x",
                                   "sort=nothing", "q=" + "é" * 500])  # fmt: skip
def test_odd_filters_are_no_fault_of_ours(cast: Cast, query: str) -> None:
    client = log_in(cast.owner)
    for path in ("files/", "batches/"):
        assert client.get(url(cast, f"{path}?{query}")).status_code == 200


# --- The edge -----------------------------------------------------------------------------------


def answer_of(path: str, parts: list[bytes], declared: int | None = None) -> tuple[int, int]:
    """The status, and how many parts were taken."""
    sent: list[dict[str, Any]] = []
    taken = 0

    async def receive() -> dict[str, Any]:
        nonlocal taken
        taken += 1
        last = taken == len(parts)
        return {"type": "http.request", "body": parts[taken - 1], "more_body": not last}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def application(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["more_body"]:
            pass
        await send({"type": "http.response.start", "status": 200, "headers": []})

    headers = [] if declared is None else [(b"content-length", b"%d" % declared)]
    asyncio.run(edge.bounded_pages(application, {"path": path, "headers": headers}, receive, send))
    return sent[0]["status"], taken


def test_pages_take_no_body_without_end(settings: Any) -> None:
    settings.MAX_BODY_BYTES, settings.MAX_FILE_BYTES = 1_000, 100_000
    part = b"x" * 600
    assert answer_of("/o/org_1/keys/new/", [part]) == (200, 1)
    assert answer_of("/o/org_1/keys/new/", [part] * 9) == (413, 2)
    assert answer_of("/o/org_1/keys/new/", [part], declared=5_000) == (413, 0)
    assert answer_of("/o/org_1/files/upload/", [part] * 9, declared=5_400) == (200, 9)
    most = (100_000 + edge.FORM_BYTES) // 600
    assert answer_of("/o/org_1/files/upload/", [part] * (most + 9)) == (413, most + 1)
    assert answer_of("/o/org_1/files/upload/x", [part] * 9) == (413, 2)


def test_a_body_that_never_comes_ends(settings: Any) -> None:
    settings.BODY_TIMEOUT_S = 0.05
    sent: list[Any] = []

    async def never() -> dict[str, Any]:
        await asyncio.sleep(60)
        return {}

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()

    async def keep(message: Any) -> None:
        sent.append(message)

    asyncio.run(edge.bounded_pages(application, {"path": "/", "headers": []}, never, keep))
    assert sent[0]["status"] == 408
