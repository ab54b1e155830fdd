"""``Idempotency-Key`` on the token path: one answer, one bill, however often it is asked for."""

from __future__ import annotations

import json
import threading
import uuid
from typing import Any

import httpx
import pytest

from tests.harness.platform import CHAT_MODEL, EMBEDDING_MODEL, Platform, wait_for

CHAT = "/v1/chat/completions"


def body_of(text: str, **fields: Any) -> dict[str, Any]:
    message = {"role": "user", "content": text}
    return {"model": CHAT_MODEL, "messages": [message], "max_tokens": 8, **fields}


def post(
    platform: Platform, body: Any, key: str, path: str = CHAT, **headers: str
) -> httpx.Response:
    with platform.http() as client:
        return client.post(path, json=body, headers={"Idempotency-Key": key, **headers})


def new_key() -> str:
    return f"key-{uuid.uuid4()}"


def rows(platform: Platform, request_id: str) -> tuple[Any, ...]:
    return platform.usage_row(request_id, "status, prompt_tokens, completion_tokens")


@pytest.mark.parametrize("is_stream", [False, True])
def test_the_first_answer_comes_again_and_is_billed_once(
    simulated: Platform, is_stream: bool
) -> None:
    body, key = body_of("Once.", stream=is_stream), new_key()
    first = post(simulated, body, key)
    again = post(simulated, body, key)
    assert first.status_code == again.status_code == 200
    assert again.content == first.content, "byte for byte, its id included"
    assert again.headers["content-type"] == first.headers["content-type"]
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert first.headers["x-request-id"] != again.headers["x-request-id"]
    status, prompt, completion = rows(simulated, first.headers["x-request-id"])
    assert (status, completion) == ("completed", 8) and prompt > 0
    sql = "SELECT count(*) FROM billing_usageevent WHERE request_id = %s"
    assert simulated.query(sql, again.headers["x-request-id"]) == [(0,)]
    if is_stream:
        assert first.content.endswith(b"data: [DONE]\n\n") and b"id: " not in first.content


def test_without_a_key_nothing_is_kept(simulated: Platform) -> None:
    with simulated.http() as client:
        answers = [client.post(CHAT, json=body_of("Twice.")) for _ in range(2)]
    assert answers[0].json()["id"] != answers[1].json()["id"]


def test_embeddings_and_completions_have_it_too(simulated: Platform) -> None:
    for path, body in (
        ("/v1/embeddings", {"model": EMBEDDING_MODEL, "input": "A cat."}),
        ("/v1/completions", {"model": CHAT_MODEL, "prompt": "A", "max_tokens": 4}),
    ):
        key = new_key()
        first, again = (post(simulated, body, key, path) for _ in range(2))
        assert first.status_code == 200, first.text
        assert (again.content, again.headers["idempotent-replayed"]) == (first.content, "true")


def test_another_body_or_path_is_refused(simulated: Platform) -> None:
    key = new_key()
    assert post(simulated, body_of("One."), key).status_code == 200
    for path, body in ((CHAT, body_of("Two.")), ("/v1/completions", body_of("One."))):
        refused = post(simulated, body, key, path)
        assert refused.status_code == 422, refused.text
        assert refused.json()["error"]["code"] == "idempotency_key_reused"


def test_an_error_of_the_request_is_remembered(simulated: Platform) -> None:
    key = new_key()
    first = post(simulated, body_of("No.", temperature=9), key)
    again = post(simulated, body_of("No.", temperature=9), key)
    assert first.status_code == again.status_code == 400
    assert first.json()["error"]["param"] == "temperature" and again.json() == first.json()
    assert again.headers["idempotent-replayed"] == "true"


def test_another_key_of_the_organization_may_choose_the_same_text(simulated: Platform) -> None:
    key = new_key()
    mine = post(simulated, body_of("Whose?"), key)
    other = {"Authorization": f"Bearer {simulated.other_key}"}
    theirs = post(simulated, body_of("Whose?"), key, **other)
    assert mine.status_code == theirs.status_code == 200
    assert mine.json()["id"] != theirs.json()["id"]


@pytest.mark.parametrize("key", ["", "x" * 256, "a b"])
def test_a_key_that_is_none_is_refused(simulated: Platform, key: str) -> None:
    refused = post(simulated, body_of("No."), key)
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "idempotency-key"


def test_of_requests_at_once_one_runs_and_the_others_wait(simulated: Platform) -> None:
    body, key = body_of("Race."), new_key()
    answers: list[httpx.Response] = []
    threads = [
        threading.Thread(target=lambda: answers.append(post(simulated, body, key)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    by_status = {code: [a for a in answers if a.status_code == code] for code in (200, 409)}
    assert len(by_status[200]) + len(by_status[409]) == 8
    assert len({answer.content for answer in by_status[200]}) == 1
    for refused in by_status[409]:
        assert refused.json()["error"]["code"] == "request_in_flight"
        assert int(refused.headers["retry-after"]) >= 1


def test_a_client_that_hangs_up_gets_its_answer_later(simulated: Platform) -> None:
    """Which is what such a key is for: the time-out of a client is no time-out of its request."""
    body, key = body_of("Count.", max_tokens=400, stream=True, ignore_eos=True), new_key()
    with (
        simulated.http() as client,
        client.stream("POST", CHAT, json=body, headers={"Idempotency-Key": key}) as response,
    ):
        request_id = response.headers["x-request-id"]
        next(response.iter_lines())

    def again() -> httpx.Response:
        return post(simulated, body, key)

    wait_for(lambda: again().status_code == 200, 30, 0.2)
    lines = [line for line in again().text.split("\n\n") if line]
    assert lines[-1] == "data: [DONE]"
    finish = json.loads(lines[-2].removeprefix("data: "))["choices"][0]["finish_reason"]
    assert finish == "length"
    assert rows(simulated, request_id)[2] == 400


def test_two_headers_are_refused(simulated: Platform) -> None:
    with simulated.http() as client:
        headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
        refused = client.post(CHAT, json=body_of("No."), headers=headers)
    assert refused.status_code == 400


def test_answers_are_forgotten_after_a_day(simulated: Platform) -> None:
    key = new_key()
    first = post(simulated, body_of("A day."), key)
    client = simulated.redis()
    claims = list(client.scan_iter("idempotency:*"))
    assert claims and all(0 < client.ttl(name) <= 86_400 + 600 for name in claims)
    assert 86_000 < client.ttl(f"log:{first.headers['x-request-id']}") <= 86_400


def test_a_file_and_a_batch_are_made_once(simulated: Platform) -> None:
    line = {"custom_id": "a", "method": "POST", "url": CHAT, "body": body_of("One.")}
    key = {"Idempotency-Key": new_key()}

    def upload(client: httpx.Client) -> httpx.Response:
        files = {"file": ("a.jsonl", json.dumps(line).encode())}
        return client.post("/v1/files", files=files, data={"purpose": "batch"}, headers=key)

    with simulated.http() as client:
        file, again = upload(client), upload(client)
        assert file.status_code == 200 and again.json() == file.json()
        body = {"input_file_id": file.json()["id"], "endpoint": CHAT, "completion_window": "24h"}
        key = {"Idempotency-Key": new_key()}
        batch, same = (client.post("/v1/batches", json=body, headers=key) for _ in range(2))
        assert batch.status_code == 200 and same.json() == batch.json()
        assert same.headers["idempotent-replayed"] == "true"
        other = client.post("/v1/batches", json={**body, "metadata": {"a": "b"}}, headers=key)
        assert other.status_code == 422
        listed = client.get("/v1/batches").json()["data"]
        assert [each["input_file_id"] for each in listed].count(body["input_file_id"]) == 1


def test_other_words_have_it_too(simulated: Platform) -> None:
    """Anthropic's streams: their own frames, with ids to resume by, and no [DONE]."""
    message = {"role": "user", "content": "Hello."}
    body = {"model": CHAT_MODEL, "max_tokens": 4, "messages": [message], "stream": True}
    key, resumable = new_key(), {"x-sluice-resumable": "true"}
    first, again = (post(simulated, body, key, "/v1/messages", **resumable) for _ in range(2))
    assert first.status_code == 200, first.text
    assert again.content == first.content and again.headers["idempotent-replayed"] == "true"
    frames = first.text.split("\n\n")
    assert frames[0].startswith("id: 1\nevent: message_start\ndata: {")
    assert frames[-1] == "" and "event: message_stop" in frames[-2]
    with simulated.http() as client:
        path = f"/v1/streams/{first.headers['x-request-id']}"
        rest = client.get(path, headers={"Last-Event-ID": "1"})
    assert rest.text == "\n\n".join(frames[1:])
