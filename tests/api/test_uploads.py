"""Files that come in parts: OpenAI's client, and whatever else asks the same addresses."""

from __future__ import annotations

import hashlib
import io
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest

from inference.uploads.actions import MOST_PART_BYTES
from tests.harness.platform import CHAT_MODEL, Platform

LINES = b"".join(
    json.dumps(
        {
            "custom_id": f"line-{number}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {
                "model": CHAT_MODEL,
                "max_tokens": 2,
                "messages": [{"role": "user", "content": f"Line {number}"}],
            },
        }
    ).encode()
    + b"\n"
    for number in range(40)
)
THIRD = len(LINES) // 3
PIECES = [LINES[:THIRD], LINES[THIRD : 2 * THIRD], LINES[2 * THIRD :]]


@pytest.fixture(scope="module")
def client(simulated: Platform) -> openai.OpenAI:
    return simulated.openai()


def begun(client: openai.OpenAI, size: int = len(LINES), **fields: Any) -> str:
    options = {"filename": "a.jsonl", "purpose": "batch", "mime_type": "application/jsonl"}
    return str(client.uploads.create(**{**options, "bytes": size, **fields}).id)


def part(client: openai.OpenAI, upload: str, content: bytes) -> str:
    return str(client.uploads.parts.create(upload, data=("part", content)).id)


def test_the_clients_own_helper_makes_a_file_that_a_batch_reads(client: openai.OpenAI) -> None:
    upload = client.uploads.upload_file_chunked(
        file=io.BytesIO(LINES).getvalue(), filename="a.jsonl", bytes=len(LINES),
        mime_type="application/jsonl", purpose="batch", part_size=len(LINES) // 4,
        md5=hashlib.md5(LINES).hexdigest(),
    )  # fmt: skip
    assert upload.status == "completed" and upload.file is not None
    assert client.files.content(upload.file.id).content == LINES
    assert client.files.retrieve(upload.file.id).bytes == len(LINES)
    batch = client.batches.create(
        input_file_id=upload.file.id, endpoint="/v1/chat/completions", completion_window="24h"
    )
    assert batch.status == "validating"


def test_parts_that_come_at_once_are_put_in_the_order_that_is_named(client: openai.OpenAI) -> None:
    upload = begun(client)
    with ThreadPoolExecutor(3) as threads:
        last, first, middle = threads.map(
            lambda content: part(client, upload, content), [PIECES[2], PIECES[0], PIECES[1]]
        )
    ended = client.uploads.complete(upload, part_ids=[first, middle, last])
    assert ended.file is not None
    assert client.files.content(ended.file.id).content == LINES


def test_however_often_it_is_completed_there_is_one_file(
    simulated: Platform, client: openai.OpenAI
) -> None:
    upload = begun(client, filename="once.jsonl")
    ids = [part(client, upload, content) for content in PIECES]
    with simulated.http() as http, ThreadPoolExecutor(6) as threads:
        answers = list(
            threads.map(
                lambda _: http.post(f"/v1/uploads/{upload}/complete", json={"part_ids": ids}),
                range(6),
            )
        )
        again = http.post(f"/v1/uploads/{upload}/complete", json={"part_ids": ids})
        other = http.post(f"/v1/uploads/{upload}/complete", json={"part_ids": ids[::-1]})
    done = [answer.json()["file"]["id"] for answer in answers if answer.status_code == 200]
    assert done and {*done} == {again.json()["file"]["id"]}
    refused = {answer.json()["error"]["code"] for answer in answers if answer.status_code != 200}
    assert refused <= {"upload_in_progress"}
    assert other.status_code == 409 and other.json()["error"]["code"] == "upload_ended"
    named = [file for file in client.files.list() if file.filename == "once.jsonl"]
    assert [file.id for file in named] == [done[0]]


def test_what_is_wrong_is_named_and_may_be_put_right(
    simulated: Platform, client: openai.OpenAI
) -> None:
    upload = begun(client)
    ids = [part(client, upload, content) for content in PIECES]
    spare = part(client, upload, b"not of the file")
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"part_ids": []}, "part_ids"),
        ({"part_ids": ids[:2]}, "part_ids"),
        ({"part_ids": [*ids, spare]}, "part_ids"),
        ({"part_ids": [ids[0], *ids]}, "part_ids"),
        ({"part_ids": [ids[0], "part_none", ids[2]]}, "part_ids[1]"),
        ({"part_ids": ids, "md5": "a" * 32}, "md5"),
        ({"part_ids": ids, "md5": "short"}, "md5"),
        ({"part_ids": ["x"] * 1_001}, "part_ids"),
    ]
    with simulated.http() as http:
        for body, param in wrong:
            answer = http.post(f"/v1/uploads/{upload}/complete", json=body)
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert client.uploads.complete(upload, part_ids=ids).file is not None


@pytest.mark.parametrize(
    ("change", "status", "param"),
    [
        ({"bytes": 0}, 400, "bytes"),
        ({"bytes": 10**30}, 413, "bytes"),
        ({"bytes": 10**12}, 413, "bytes"),
        ({"purpose": "fine-tune"}, 400, "purpose"),
        ({"filename": ""}, 400, "filename"),
        ({"filename": 5}, 400, "filename"),
        ({"mime_type": "a\0"}, 400, "mime_type"),
        ({"expires_after": {"anchor": "created_at", "seconds": 5}}, 400, "expires_after.seconds"),
        ({"more": 1}, 400, "more"),
    ],
)
def test_an_odd_upload_is_refused(
    simulated: Platform, change: dict[str, Any], status: int, param: str
) -> None:
    body = {"filename": "a", "purpose": "batch", "bytes": 5, "mime_type": "text/plain", **change}
    with simulated.http() as http:
        answer = http.post("/v1/uploads", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)


def test_a_name_is_a_label_and_no_path(client: openai.OpenAI) -> None:
    upload = begun(client, size=1, filename="../../etc/pass\0wd")
    ended = client.uploads.complete(upload, part_ids=[part(client, upload, b"x")])
    assert ended.file is not None and ended.file.filename == "passwd"


def test_parts_are_bounded_in_size_and_in_sum(simulated: Platform, client: openai.OpenAI) -> None:
    upload = begun(client, size=10)
    with simulated.http() as http:
        at = f"/v1/uploads/{upload}/parts"
        head = {"content-type": "multipart/form-data; boundary=b"}
        said = head | {"content-length": str(MOST_PART_BYTES + (1 << 20))}
        large = http.build_request("POST", at, headers=said, content=b"--b")
        answer = _without_body(simulated, large)
        assert b" 413 " in answer and b"file_too_large" in answer
        for form, param in (
            ({"other": ("a", b"x")}, "data"),
            ({"data": ("a", b"")}, "data"),
        ):
            answer = http.post(at, files=form)
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
        more = http.post(at, files={"data": ("a", b"x")}, data={"note": "y"})
        assert (more.status_code, more.json()["error"]["param"]) == (400, "note")
        encoded = http.post(at, files={"data": ("a", b"x")}, headers={"content-encoding": "gzip"})
        assert encoded.status_code == 415
    rows = simulated.query(
        "SELECT part_bytes, part_count FROM inference_upload WHERE public_id = %s", upload
    )
    assert rows == [(0, 0)], "what was refused takes no room"


def _without_body(platform: Platform, request: httpx.Request) -> bytes:
    """The answer to a request's head alone: what is too large is refused before it comes."""
    import socket

    head = f"POST {request.url.path} HTTP/1.1\r\n" + "".join(
        f"{name}: {value}\r\n" for name, value in request.headers.items()
    )
    with socket.create_connection(("127.0.0.1", platform.port), timeout=10) as connection:
        connection.sendall(head.encode() + b"\r\n")
        return connection.recv(65_536)


def test_a_cancelled_upload_takes_nothing_more(simulated: Platform, client: openai.OpenAI) -> None:
    upload = begun(client)
    ids = [part(client, upload, content) for content in PIECES]
    for _ in range(2):
        assert client.uploads.cancel(upload).status == "cancelled"
    for call in (
        lambda: part(client, upload, b"x"),
        lambda: client.uploads.complete(upload, part_ids=ids),
    ):
        with pytest.raises(openai.ConflictError) as refused:
            call()
        assert refused.value.code == "upload_ended"
    held = "SELECT f.deleted_at IS NULL FROM inference_upload u JOIN inference_file f ON f.id = u.file_id"
    assert simulated.query(f"{held} WHERE u.public_id = %s", upload) == [(False,)]


def test_nothing_of_another_organization_is_there(
    simulated: Platform, client: openai.OpenAI
) -> None:
    upload = begun(client)
    ids = [part(client, upload, content) for content in PIECES]
    stranger = simulated.openai(simulated.other_key)
    for call in (
        lambda: part(stranger, upload, b"x"),
        lambda: stranger.uploads.complete(upload, part_ids=ids),
        lambda: stranger.uploads.cancel(upload),
    ):
        with pytest.raises(openai.NotFoundError):
            call()
    own = begun(stranger, size=len(PIECES[0]))
    with pytest.raises(openai.BadRequestError, match="no part"):
        stranger.uploads.complete(own, part_ids=ids[:1])
    assert client.uploads.complete(upload, part_ids=ids).status == "completed"


def test_the_same_key_and_body_is_one_upload(client: openai.OpenAI) -> None:
    headers = {"Idempotency-Key": f"upload-{begun(client)}"}
    assert begun(client, extra_headers=headers) == begun(client, extra_headers=headers)
