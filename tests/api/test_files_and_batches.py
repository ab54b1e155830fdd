"""Files and batches as clients see them, with OpenAI's own client, on a whole platform.

The last test kills every kind of process under a batch: that is its short form for CI.
"""

from __future__ import annotations

import http.client
import io
import json
import os
import signal
import time
from collections import Counter
from typing import Any

import httpx
import openai
import pytest

from tests.harness.platform import CHAT_MODEL, EMBEDDING_MODEL, Platform, wait_for

CHAT = "/v1/chat/completions"
LINES = int(os.environ.get("CHAOS_LINES", "1500"))


def chat_line(number: int, **fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": f"Number {number}?"}]
    body = {"model": CHAT_MODEL, "max_tokens": 8, "messages": messages} | fields
    return {"custom_id": f"r{number}", "method": "POST", "url": CHAT, "body": body}


def jsonl(lines: list[Any]) -> io.BytesIO:
    text = "\n".join(each if isinstance(each, str) else json.dumps(each) for each in lines)
    file = io.BytesIO(text.encode())
    file.name = "requests.jsonl"
    return file


def begin(client: openai.OpenAI, lines: list[Any], endpoint: str = CHAT, **fields: Any) -> Any:
    file = client.files.create(file=jsonl(lines), purpose="batch")
    return client.batches.create(
        input_file_id=file.id, endpoint=endpoint, completion_window="24h", **fields
    )


def ended(client: openai.OpenAI, batch: Any, timeout_s: float = 60) -> Any:
    def look() -> Any:
        found = client.batches.retrieve(batch.id)
        return found if found.status in ("completed", "failed", "expired", "cancelled") else None

    return wait_for(look, timeout_s, every_s=0.2)


def read(client: openai.OpenAI, file_id: str | None) -> list[dict[str, Any]]:
    if file_id is None:
        return []
    return [json.loads(line) for line in client.files.content(file_id).text.splitlines()]


# --- Batches --------------------------------------------------------------------------------------


def test_a_batch_from_upload_to_results(simulated: Platform) -> None:
    client = simulated.openai()
    lines = [
        chat_line(1),
        chat_line(2, temperature=9),
        chat_line(3),
        chat_line(4, model=CHAT_MODEL),
    ]
    batch = begin(client, lines, metadata={"for": "tests"})
    assert (batch.status, batch.object, batch.endpoint) == ("validating", "batch", CHAT)
    done = ended(client, batch)
    assert done.status == "completed" and done.errors is None
    assert done.metadata == {"for": "tests"} and done.model == CHAT_MODEL
    counts = done.request_counts
    assert (counts.total, counts.completed, counts.failed) == (4, 3, 1)
    assert done.created_at <= done.in_progress_at <= done.finalizing_at <= done.completed_at
    assert done.expires_at - done.created_at == 86_400
    output, errors = read(client, done.output_file_id), read(client, done.error_file_id)
    assert [line["custom_id"] for line in output] == ["r1", "r3", "r4"]
    answers = [line["response"]["body"] for line in output]
    assert {answer["object"] for answer in answers} == {"chat.completion"}
    assert {answer["service_tier"] for answer in answers} == {"batch"}
    assert {line["response"]["status_code"] for line in output} == {200}
    (refused,) = errors
    assert (refused["custom_id"], refused["response"]["status_code"]) == ("r2", 400)
    assert refused["response"]["body"]["error"]["param"] == "temperature"
    told = Counter({"in": done.usage.input_tokens, "out": done.usage.output_tokens})
    assert told == Counter(
        {
            "in": sum(answer["usage"]["prompt_tokens"] for answer in answers),
            "out": sum(answer["usage"]["completion_tokens"] for answer in answers),
        }
    )
    for line in output:
        tokens = line["response"]["body"]["usage"]
        columns = "tier, prompt_tokens, completion_tokens, cost_micros"
        tier, prompt, completion, cost = simulated.usage_row(
            line["response"]["request_id"], columns
        )
        assert (tier, prompt, completion) == (
            "batch", tokens["prompt_tokens"], tokens["completion_tokens"]
        )  # fmt: skip
        assert cost > 0


def test_embeddings_in_a_batch(simulated: Platform) -> None:
    client = simulated.openai()
    url = "/v1/embeddings"
    lines = [
        {"custom_id": str(number), "method": "POST", "url": url,
         "body": {"model": EMBEDDING_MODEL, "input": [f"Text {number}", "another"]}}
        for number in range(3)
    ]  # fmt: skip
    done = ended(client, begin(client, lines, url))
    output = read(client, done.output_file_id)
    assert [len(line["response"]["body"]["data"]) for line in output] == [2, 2, 2]
    assert done.usage.output_tokens == 0 and done.usage.input_tokens > 0


def test_what_is_wrong_with_a_file_is_told_by_line(simulated: Platform) -> None:
    client = simulated.openai()
    failed = ended(
        client, begin(client, [chat_line(1), "{", chat_line(1), chat_line(2, stream=True)])
    )
    assert failed.status == "failed" and failed.failed_at
    faults = [(fault.line, fault.code, fault.param) for fault in failed.errors.data]
    assert faults == [
        (2, "invalid_json_line", None),
        (3, "duplicate_custom_id", "custom_id"),
        (4, "invalid_request", "body.stream"),
    ]
    assert failed.request_counts.total == 0 and failed.output_file_id is None


def test_batches_are_listed_by_pages_and_cancelled(simulated: Platform) -> None:
    client = simulated.openai()
    made = [begin(client, [chat_line(n) for n in range(400)]).id for _ in range(3)]
    first = client.batches.list(limit=2)
    assert [batch.id for batch in first.data] == made[:0:-1] and first.has_more
    assert first.get_next_page().data[0].id == made[0]
    cancelled = client.batches.cancel(made[2])
    assert cancelled.status in ("cancelling", "cancelled") and cancelled.cancelling_at
    done = ended(client, cancelled)
    assert done.status == "cancelled"
    assert done.request_counts.completed + done.request_counts.failed == done.request_counts.total
    ids = [line["custom_id"] for file in (done.output_file_id, done.error_file_id)
           for line in read(client, file)]  # fmt: skip
    assert len(ids) == len(set(ids)) == done.request_counts.total
    with pytest.raises(openai.ConflictError, match="status 'cancelled'"):
        client.batches.cancel(made[2])
    for batch in made[:2]:
        assert ended(client, client.batches.retrieve(batch)).status == "completed"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input_file_id": "file-none"}, "input_file_id"),
        ({"endpoint": "/v1/images/generations"}, "endpoint"),
        ({"completion_window": "1h"}, "completion_window"),
        ({"metadata": {"a": "x" * 513}}, "metadata"),
        ({"metadata": {str(n): "" for n in range(17)}}, "metadata"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 1}},
         "output_expires_after.seconds"),
        ({"surprise": 1}, "surprise"),
    ],
)  # fmt: skip
def test_a_bad_batch_names_its_field(
    simulated: Platform, fields: dict[str, Any], param: str
) -> None:
    body = {"input_file_id": "file-none", "endpoint": CHAT, "completion_window": "24h"} | fields
    with simulated.http() as plain:
        answer = plain.post("/v1/batches", json=body)
    assert answer.status_code in (400, 404), answer.text
    assert answer.json()["error"]["param"] == param


# --- Files -----------------------------------------------------------------------------------------


def test_a_file_is_stored_listed_read_and_deleted(simulated: Platform) -> None:
    client = simulated.openai()
    content = os.urandom(3_000_000)
    file = client.files.create(
        file=("a/b\\c.jsonl", content), purpose="batch",
        expires_after={"anchor": "created_at", "seconds": 3_600},
    )  # fmt: skip
    assert (file.bytes, file.filename, file.purpose) == (3_000_000, "c.jsonl", "batch")
    assert file.expires_at is not None and file.expires_at - file.created_at in (3_599, 3_600)
    assert client.files.retrieve(file.id).model_dump() == file.model_dump()
    assert client.files.content(file.id).content == content
    assert file.id in [each.id for each in client.files.list(purpose="batch").data]
    assert client.files.list(purpose="batch_output", limit=1).data[:1] != [file]
    with simulated.http() as plain:
        path = f"/v1/files/{file.id}/content"
        for asked, (start, end) in {
            "bytes=0-9": (0, 10), "bytes=2999990-": (2_999_990, 3_000_000),
            "bytes=-5": (2_999_995, 3_000_000), "bytes=1-99999999": (1, 3_000_000),
        }.items():  # fmt: skip
            part = plain.get(path, headers={"range": asked})
            assert (part.status_code, part.content) == (206, content[start:end])
            assert part.headers["content-range"] == f"bytes {start}-{end - 1}/3000000"
        for asked in ("bytes=3000000-", "bytes=5-4", "lines=1-2", "bytes=0-1,3-4"):
            assert plain.get(path, headers={"range": asked}).status_code == 416
    assert client.files.delete(file.id).deleted
    for gone in (client.files.retrieve, client.files.content, client.files.delete):
        with pytest.raises(openai.NotFoundError):
            gone(file.id)


BOUNDARY = "xx"


def form(*parts: tuple[str, str]) -> bytes:
    lines = [f"--{BOUNDARY}\r\n{head}\r\n\r\n{body}\r\n" for head, body in parts]
    return "".join(lines).encode() + f"--{BOUNDARY}--\r\n".encode()


def field(name: str, value: str, more: str = "") -> tuple[str, str]:
    return f'Content-Disposition: form-data; name="{name}"{more}', value


FILE = field("file", "{}", '; filename="a.jsonl"')
PURPOSE = field("purpose", "batch")


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        (form(PURPOSE), 400, "file"),
        (form(FILE), 400, "purpose"),
        (form(FILE, field("purpose", "fine-tune")), 400, "purpose"),
        (form(FILE, FILE, PURPOSE), 400, "file"),
        (form(FILE, PURPOSE, PURPOSE), 400, "purpose"),
        (form(PURPOSE, field("file", "", '; filename="a"')), 400, "file"),
        (form(PURPOSE, field("expires_after[anchor]", "x"), FILE), 400, "expires_after.anchor"),
        (form(PURPOSE, field("expires_after[seconds]", "9"), FILE), 400, "expires_after.seconds"),
        (form(PURPOSE, field("expires_after", "9"), FILE), 400, "expires_after"),
        (form(PURPOSE, field("surprise", "1"), FILE), 400, "surprise"),
        (form(PURPOSE, field("long", "x" * 2_000), FILE), 400, "long"),
        (form(*[field(f"f{n}", "") for n in range(9)]), 400, None),
        (form(PURPOSE, (FILE[0] + "\r\nContent-Transfer-Encoding: base64", "e30=")), 400, "file"),
        (form(PURPOSE, (FILE[0] + "\r\nContent-Encoding: gzip", "\x1f")), 400, "file"),
        (form(PURPOSE, FILE)[:-6], 400, "file"),
        (b"no form at all", 400, None),
        (b"", 400, "file"),
    ],
)
def test_a_bad_upload_leaves_nothing(
    simulated: Platform, body: bytes, status: int, param: str | None
) -> None:
    kept = "SELECT count(*) FROM inference_file WHERE deleted_at IS NULL"
    before = simulated.query(kept)
    kind = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
    with simulated.http() as plain:
        answer = plain.post("/v1/files", content=body, headers=kind)
        assert answer.status_code == status, answer.text
        error = answer.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert param is None or error["param"] == param, error
    assert simulated.query(kept) == before


def test_encodings_sizes_and_other_ways_in_are_refused(simulated: Platform) -> None:
    kind = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
    body = form(PURPOSE, FILE)
    # Refused for its size before a byte of it came.
    sized = http.client.HTTPConnection("127.0.0.1", simulated.port, timeout=10)
    key = {"authorization": f"Bearer {simulated.key}", "content-length": str(10**12)}
    sized.putrequest("POST", "/v1/files")
    for name, value in (kind | key).items():
        sized.putheader(name, value)
    sized.endheaders()
    refused = sized.getresponse()
    assert (refused.status, json.load(refused)["error"]["code"]) == (413, "file_too_large")
    sized.close()
    with simulated.http() as plain:
        for headers, status in (
            ({**kind, "content-encoding": "gzip"}, 415),
            ({"content-type": "application/json"}, 415),
            ({"content-type": "multipart/form-data"}, 415),
        ):
            answer = plain.post("/v1/files", content=body, headers=headers)
            assert answer.status_code == status, (headers, answer.text)
        assert plain.put("/v1/files", content=b"").status_code == 405
        assert plain.get("/v1/files/none/content").status_code == 404
        assert plain.get("/v1/files/a%2Fb").status_code == 404
        for query in ("limit=0", "limit=x", "order=up", "after=file-none", "x=1"):
            answer = plain.get(f"/v1/files?{query}")
            assert answer.status_code == 400, query
            assert answer.json()["error"]["param"] == query.partition("=")[0]


# --- Whose ------------------------------------------------------------------------------------------


def test_nothing_of_another_organization_is_there(simulated: Platform) -> None:
    ours, theirs = simulated.openai(), simulated.openai(simulated.other_key)
    batch = begin(ours, [chat_line(1)])
    done = ended(ours, batch)
    files = [batch.input_file_id, done.output_file_id]
    assert {each.id for each in theirs.files.list().data}.isdisjoint(files)
    assert batch.id not in [each.id for each in theirs.batches.list().data]
    for file in files:
        for reach in (theirs.files.retrieve, theirs.files.content, theirs.files.delete):
            with pytest.raises(openai.NotFoundError):
                reach(file)
    for reach in (theirs.batches.retrieve, theirs.batches.cancel):
        with pytest.raises(openai.NotFoundError):
            reach(batch.id)
    with pytest.raises(openai.NotFoundError):
        theirs.batches.create(
            input_file_id=batch.input_file_id, endpoint=CHAT, completion_window="24h"
        )
    assert ours.files.retrieve(files[0]).id == files[0]


def project_key(platform: Platform, **terms: Any) -> tuple[str, str]:
    """A new key of the demo's project: its id and secret."""
    headers = {"Authorization": f"Bearer {platform.demo['SLUICE_ADMIN_KEY']}"}
    with httpx.Client(base_url=platform.url, headers=headers, timeout=30) as plain:
        projects = plain.get("/v1/organization/projects").json()["data"]
        path = f"/v1/organization/projects/{projects[0]['id']}/api_keys"
        key = plain.post(path, json={"name": "A batch's", **terms}).json()
    return key["id"], key["value"]


def revoke(platform: Platform, key_id: str) -> None:
    headers = {"Authorization": f"Bearer {platform.demo['SLUICE_ADMIN_KEY']}"}
    with httpx.Client(base_url=platform.url, headers=headers, timeout=30) as plain:
        projects = plain.get("/v1/organization/projects").json()["data"]
        path = f"/v1/organization/projects/{projects[0]['id']}/api_keys/{key_id}"
        assert plain.delete(path).status_code == 200


def test_keys_are_held_to_their_scopes(simulated: Platform) -> None:
    _, reader = project_key(simulated, scopes=["files.read", "batches.read"])
    client = simulated.openai(reader)
    assert client.files.list(limit=1).object == "list" and client.batches.list().object == "list"
    with pytest.raises(openai.PermissionDeniedError, match=r"files\.write"):
        client.files.create(file=jsonl([chat_line(1)]), purpose="batch")
    _, writer = project_key(simulated, scopes=["files.write", "batches.write"])
    client = simulated.openai(writer)
    file = client.files.create(file=jsonl([chat_line(1)]), purpose="batch")
    with pytest.raises(openai.PermissionDeniedError, match=r"inference\.chat"):
        client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
    with pytest.raises(openai.PermissionDeniedError, match=r"files\.read"):
        client.files.list()
    with pytest.raises(openai.PermissionDeniedError):
        simulated.openai(simulated.demo["SLUICE_ADMIN_KEY"]).files.list()


def test_a_revoked_key_ends_what_it_began(simulated: Platform) -> None:
    key_id, secret = project_key(simulated)
    batch = begin(simulated.openai(secret), [chat_line(n) for n in range(3_000)])
    client = simulated.openai()
    wait_for(lambda: (client.batches.retrieve(batch.id).request_counts.completed) > 0, 60)
    revoke(simulated, key_id)
    done = ended(client, batch)
    assert done.status == "completed" and done.request_counts.failed > 0
    errors = read(client, done.error_file_id)
    assert {line["response"]["body"]["error"]["code"] for line in errors} == {"invalid_api_key"}
    assert len(errors) == done.request_counts.failed
    assert len(read(client, done.output_file_id)) == done.request_counts.completed


# --- Whatever dies --------------------------------------------------------------------------------------


def test_every_process_killed_under_a_batch_and_each_line_is_there_once(
    simulated: Platform,
) -> None:
    """kill -9 of the batch process, the control worker, a replica, the gateway and Valkey."""
    client = simulated.openai().with_options(max_retries=8)
    batch = begin(client, [chat_line(n) for n in range(LINES)])

    def finished() -> int:
        counts = "SELECT completed + failed FROM inference_batch WHERE public_id = %s"
        return int(simulated.query(counts, batch.id)[0][0])

    began = time.monotonic()
    for number, name in enumerate(("batch", "control", "chat-1", "web", "valkey")):
        goal = LINES * (number + 1) // 8
        wait_for(lambda goal=goal: finished() >= goal, 60, every_s=0.02)
        pid = simulated.pid(name)
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda name=name, pid=pid: simulated.pid(name) not in (0, pid), 30)
    wait_for(lambda: _is_ready(simulated), 60)
    done = ended(client, batch, 120)
    print(f"CHAOS {LINES} lines, 5 kills: {time.monotonic() - began:.1f} s")
    assert (done.status, done.request_counts.completed) == ("completed", LINES)
    output = read(client, done.output_file_id)
    assert done.error_file_id is None
    assert Counter(line["custom_id"] for line in output) == Counter(f"r{n}" for n in range(LINES))
    _check_billed_once(simulated, done, output)


def _check_billed_once(platform: Platform, done: Any, output: list[dict[str, Any]]) -> None:
    """The ledger has the requests of the results and no other, with the tokens that they tell."""
    prefix = done.id.removeprefix("batch_") + "-%"
    rows = platform.query(
        "SELECT request_id, prompt_tokens, completion_tokens, cost_micros"
        " FROM billing_usageevent WHERE request_id LIKE %s AND prompt_tokens > 0",
        prefix,
    )
    told = {
        line["response"]["request_id"]: (
            line["response"]["body"]["usage"]["prompt_tokens"],
            line["response"]["body"]["usage"]["completion_tokens"],
        )
        for line in output
    }
    assert {row[0]: (row[1], row[2]) for row in rows} == told
    posted = platform.query(
        "SELECT sum(entry.amount_micros) FROM billing_ledgerentry AS entry"
        " JOIN billing_ledgertransaction AS posting ON posting.id = entry.transaction_id"
        " WHERE entry.account = 'receivable' AND posting.reference LIKE %s",
        prefix,
    )
    assert posted == [(sum(row[3] for row in rows),)]


def _is_ready(platform: Platform) -> bool:
    try:
        return httpx.get(f"{platform.url}/readyz", timeout=2).status_code == 200
    except httpx.HTTPError:
        return False
