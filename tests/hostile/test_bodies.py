"""Bodies that are made to be expensive, or to end an engine: refused in time, nothing dies of them.

Bounds by field are in ``tests/api/test_bad_input.py`` and ``test_structured_outputs.py``, the
compiler of grammars is held in ``tests/workers``, forms in ``tests/api/test_files_and_batches.py``.
"""

from __future__ import annotations

import asyncio
import gzip
import time
from typing import Any

import httpx
import pytest

from api.http import Request
from inference.errors import InferenceError
from tenants.errors import TenantError
from tests.harness.platform import CHAT_MODEL, EMBEDDING_MODEL, Platform

CHAT, COMPLETIONS, EMBEDDINGS = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
RESPONSES, MESSAGES = "/v1/responses", "/v1/messages"
# Of a refusal, with what a busy machine of two cores adds.
MOST_S = 3.0
HI: list[Any] = [{"role": "user", "content": "Hi"}]
FIVE_HUNDRED_KB = 500_000


def raw(fields: str) -> bytes:
    return b'{"model": "%b", "max_tokens": 2, %b}' % (CHAT_MODEL.encode(), fields.encode())


def bomb(megabytes: int) -> bytes:
    return gzip.compress(b" " * (megabytes << 20))


BOMBS = {
    "a number of half a million digits": raw(f'"messages": [], "seed": {"9" * FIVE_HUNDRED_KB}'),
    "a fraction of as many": raw(f'"messages": [], "temperature": 0.{"1" * FIVE_HUNDRED_KB}'),
    "an exponent without end": raw('"messages": [], "temperature": 1e999999999'),
    "a million nulls": raw(f'"messages": [{"null," * 700_000} null]'),
    "as many empty messages": raw(f'"messages": [{"{}," * 900_000} {{}}]'),
    "one key as often": raw(",".join(['"seed": 1'] * 200_000)),
    "many keys": raw(",".join(f'"k{n}": 1' for n in range(200_000))),
    "lists in lists": raw(f'"messages": {"[" * 900_000}'),
    "objects in objects": raw('"metadata": ' + '{"a":' * 300_000),
    "escapes": raw('"messages": [{"role": "user", "content": "' + "\\ud83d" * 300_000 + '"}]'),
    "a gzip of a gigabyte": bomb(1_024),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_before_it_costs_anything(simulated: Platform, name: str) -> None:
    headers = {"content-type": "application/json"}
    if name.startswith("a gzip"):
        headers["content-encoding"] = "gzip"
    with simulated.http() as client:
        began = time.monotonic()
        answer = client.post(CHAT, content=BOMBS[name], headers=headers)
        took_s = time.monotonic() - began
    assert 400 <= answer.status_code < 500, answer.text[:300]
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert len(answer.content) < 2_000, "what was sent is not sent back"
    assert took_s < MOST_S


# What has ended an engine somewhere, in the words of each endpoint that reads it.
KILLERS: list[tuple[str, dict[str, Any], str]] = [
    (CHAT, {"n": 10**6}, "n"),
    (CHAT, {"n": 2**63}, "n"),
    (COMPLETIONS, {"best_of": 10**6}, "best_of"),
    (COMPLETIONS, {"prompt": ["a"] * 10_000}, "prompt"),
    (COMPLETIONS, {"logprobs": 10**6}, "logprobs"),
    (COMPLETIONS, {"logprobs": -1}, "logprobs"),
    (CHAT, {"logprobs": True, "top_logprobs": 2**31}, "top_logprobs"),
    (CHAT, {"max_tokens": 1, "min_tokens": 2}, "min_tokens"),
    (CHAT, {"max_tokens": None, "min_tokens": 2**40}, "min_tokens"),
    (CHAT, {"min_tokens": -1}, "min_tokens"),
    (CHAT, {"stop_token_ids": [2**31]}, "stop_token_ids[0]"),
    (CHAT, {"allowed_token_ids": []}, "allowed_token_ids"),
    (CHAT, {"logit_bias": {"-1": 1}}, "logit_bias"),
    (CHAT, {"logit_bias": {str(n): 1 for n in range(2_000)}}, "logit_bias"),
    (CHAT, {"bad_words": ["x"] * 10_000}, "bad_words"),
    (CHAT, {"stop": ["x"] * 10_000}, "stop"),
    (CHAT, {"repetition_penalty": 1e-300, "top_k": 2**40}, "top_k"),
    (CHAT, {"temperature": 1e308}, "temperature"),
    (CHAT, {"seed": -(2**70)}, "seed"),
    (CHAT, {"guided_regex": "((a{100}){100}){100}"}, "guided_regex"),
    (CHAT, {"guided_regex": "(a|aa)+" * 400}, "guided_regex"),
    (CHAT, {"guided_grammar": "x" * 100_000}, "guided_grammar"),
    (CHAT, {"guided_choice": ["a" * 2_000]}, "guided_choice[0]"),
    (CHAT, {"chat_template_kwargs": {"a": "x" * 100_000}}, "chat_template_kwargs"),
    (CHAT, {"truncate_prompt_tokens": -5}, "truncate_prompt_tokens"),
    (EMBEDDINGS, {"input": [2**40]}, "input"),
    (EMBEDDINGS, {"truncate_prompt_tokens": 2**40}, "truncate_prompt_tokens"),
    (RESPONSES, {"max_output_tokens": 2**40}, "max_output_tokens"),
    (RESPONSES, {"top_logprobs": 2**31}, "top_logprobs"),
    (MESSAGES, {"max_tokens": 2**70}, "max_tokens"),
    (MESSAGES, {"top_k": -(2**40)}, "top_k"),
]
BASES: dict[str, dict[str, Any]] = {
    CHAT: {"model": CHAT_MODEL, "messages": HI, "max_tokens": 4},
    COMPLETIONS: {"model": CHAT_MODEL, "prompt": "Hi", "max_tokens": 4},
    EMBEDDINGS: {"model": EMBEDDING_MODEL, "input": "Hi"},
    RESPONSES: {"model": CHAT_MODEL, "input": "Hi"},
    MESSAGES: {"model": CHAT_MODEL, "messages": HI, "max_tokens": 4},
}


def test_what_ends_engines_elsewhere_reaches_none(simulated: Platform) -> None:
    engines = {name: simulated.pid(name) for name in ("chat-1", "chat-2", "embed-1")}
    with simulated.http() as client:
        for path, change, param in KILLERS:
            answer = client.post(path, json={**BASES[path], **change})
            assert answer.status_code == 400, (path, change, answer.text[:300])
            error = answer.json()["error"]
            named = error["message"] if path == MESSAGES else error["param"]
            assert named.startswith(param), (change, error)
        for path, base in BASES.items():
            assert client.post(path, json=base).status_code == 200, path
    assert {name: simulated.pid(name) for name in engines} == engines, "the same processes"


async def test_a_body_that_drips_is_given_up(settings: Any) -> None:
    """One byte at a time, each in time: the whole is what has to be there in time."""
    settings.BODY_TIMEOUT_S = 0.2
    received = 0

    async def receive() -> dict[str, Any]:
        nonlocal received
        received += 1
        await asyncio.sleep(0.02)
        return {"type": "http.request", "body": b" ", "more_body": True}

    scope = {
        "type": "http", "method": "POST", "path": CHAT, "client": ("127.0.0.1", 1),
        "headers": [(b"content-type", b"application/json")],
    }  # fmt: skip
    began = time.monotonic()
    with pytest.raises((InferenceError, TenantError)) as refused:
        await Request(scope, receive).json_body()
    assert (refused.value.status, refused.value.code) == (408, "request_timeout")
    assert 2 < received < 60 and time.monotonic() - began < 2


def test_many_slow_bodies_keep_nobody_waiting(simulated: Platform) -> None:
    """Heads of requests whose bodies never come: who is quick is answered meanwhile."""
    import socket

    head = (
        f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {simulated.key}\r\n"
        "Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
    ).encode()
    slow = [socket.create_connection(("127.0.0.1", simulated.port), 10) for _ in range(100)]
    try:
        for connection in slow:
            connection.sendall(head)
        with httpx.Client(base_url=simulated.url, timeout=10) as client:
            headers = {"authorization": f"Bearer {simulated.key}"}
            began = time.monotonic()
            for _ in range(5):
                answer = client.post(CHAT, json=BASES[CHAT], headers=headers)
                assert answer.status_code == 200
            assert time.monotonic() - began < 5 * MOST_S
    finally:
        for connection in slow:
            connection.close()
