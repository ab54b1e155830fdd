"""PYSEC-2026-4198: a request id that the client chose mixed two answers in the engine.

Ids are minted here; what a client calls its request is never one.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.api.test_stream_socket import ask, frames_until_done, socket
from tests.harness.platform import CHAT_MODEL, Platform
from tests.hostile.raw import CHAT, bearer, post

CHOSEN = "0123456789abcdef01234567"
NAMES = (b"X-Request-Id", b"X-Client-Request-Id", b"Request-Id", b"X-Correlation-Id")


def test_requests_of_one_chosen_id_are_requests_of_their_own(simulated: Platform) -> None:
    def send(number: int) -> tuple[str, dict]:
        body = {
            "model": CHAT_MODEL,
            "messages": [{"role": "user", "content": f"Say {number}"}],
            "max_tokens": number + 1,
        }
        headers = [name + b": " + CHOSEN.encode() for name in NAMES]
        answer = post(
            simulated, CHAT, bearer(simulated.key), *headers, body=json.dumps(body).encode()
        )
        assert answer.status == 200, answer
        return answer.headers["x-request-id"], json.loads(answer.body)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(send, range(16)))
    ids = {request_id for request_id, _ in answers}
    assert len(ids) == len({body["id"] for _, body in answers}) == 16
    assert CHOSEN not in ids
    for number, (_, body) in enumerate(answers):
        assert body["usage"]["completion_tokens"] == number + 1


@pytest.mark.parametrize("field", ["request_id", "id", "cache_salt", "priority", "vllm_xargs"])
def test_a_body_cannot_name_one(simulated: Platform, field: str) -> None:
    body = json.dumps(
        {"model": CHAT_MODEL, "messages": [{"role": "user", "content": "Hi"}], field: CHOSEN}
    )
    answer = post(simulated, CHAT, bearer(simulated.key), body=body.encode())
    assert answer.status == 400
    assert answer.error["code"] == "unknown_parameter"


def test_the_sockets_own_names_stay_on_their_socket(simulated: Platform) -> None:
    with socket(simulated) as first, socket(simulated, simulated.other_key) as second:
        for connection in (first, second):
            connection.send(ask(CHOSEN, stream=False))
        frames = [frames_until_done(each, {CHOSEN})[CHOSEN] for each in (first, second)]
    ids = [each[-1]["request_id"] for each in frames]
    assert len({*ids, CHOSEN}) == 3
    for request_id, owner in zip(ids, ("Acme", "Globex"), strict=True):
        assert simulated.usage_row(
            request_id, "(SELECT name FROM tenants_organization WHERE id = organization_id)"
        ) == (owner,)
