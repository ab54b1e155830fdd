"""Whatever a client sends, it gets the right status and OpenAI's error shape, never a 500."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.harness.platform import CHAT_MODEL, EMBEDDING_MODEL, Platform

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
EMBEDDINGS = "/v1/embeddings"
HI = [{"role": "user", "content": "Hi"}]
TOOL = {"type": "function", "function": {"name": "f"}}
IMAGE = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://a/b"}}]}


def chat(**fields: Any) -> dict[str, Any]:
    return {"model": CHAT_MODEL, "messages": HI, "max_tokens": 4, **fields}


def completion(**fields: Any) -> dict[str, Any]:
    return {"model": CHAT_MODEL, "prompt": "Hi", "max_tokens": 4, **fields}


def embedding(**fields: Any) -> dict[str, Any]:
    return {"model": EMBEDDING_MODEL, "input": "Hi", **fields}


def error_of(response: httpx.Response) -> dict[str, Any]:
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert "Traceback" not in response.text
    return dict(error)


# endpoint, body, status, param
CASES: list[tuple[str, dict[str, Any], int, str | None]] = [
    (CHAT, chat(model="nope"), 404, "model"),
    (CHAT, chat(model=EMBEDDING_MODEL), 400, "model"),
    (CHAT, chat(model=""), 400, "model"),
    (CHAT, {"messages": HI}, 400, "model"),
    (CHAT, {"model": CHAT_MODEL}, 400, "messages"),
    (CHAT, chat(messages=[]), 400, "messages"),
    (CHAT, chat(messages="Hi"), 400, "messages"),
    (CHAT, chat(messages=[{"role": "user"}]), 400, "messages[0].content"),
    (CHAT, chat(messages=[{"content": "Hi"}]), 400, "messages[0].role"),
    (CHAT, chat(messages=[{"role": "wizard", "content": "Hi"}]), 400, "messages[0].role"),
    (CHAT, chat(messages=[{"role": "user", "content": 5}]), 400, "messages[0].content"),
    (CHAT, chat(messages=[{"role": "user", "content": "a", "b": 1}]), 400, "messages[0].b"),
    (CHAT, chat(messages=[{"role": "user", "content": "word " * 5000}]), 400, "messages"),
    (CHAT, chat(max_tokens=0), 400, "max_tokens"),
    (CHAT, chat(max_tokens=-1), 400, "max_tokens"),
    (CHAT, chat(max_tokens="many"), 400, "max_tokens"),
    (CHAT, chat(max_tokens=1.5), 400, "max_tokens"),
    (CHAT, chat(max_tokens=10**12), 400, "max_tokens"),
    (CHAT, chat(max_tokens=100_000), 400, "max_tokens"),
    (CHAT, chat(max_completion_tokens=100_000), 400, "max_completion_tokens"),
    (CHAT, chat(min_tokens=5), 400, "min_tokens"),
    (CHAT, chat(temperature=-0.1), 400, "temperature"),
    (CHAT, chat(temperature=2.1), 400, "temperature"),
    (CHAT, chat(temperature="hot"), 400, "temperature"),
    (CHAT, chat(top_p=0), 400, "top_p"),
    (CHAT, chat(top_p=1.01), 400, "top_p"),
    (CHAT, chat(top_k=-2), 400, "top_k"),
    (CHAT, chat(min_p=2), 400, "min_p"),
    (CHAT, chat(n=0), 400, "n"),
    (CHAT, chat(n=17), 400, "n"),
    (CHAT, chat(n=10**9), 400, "n"),
    (CHAT, chat(presence_penalty=3), 400, "presence_penalty"),
    (CHAT, chat(frequency_penalty=-3), 400, "frequency_penalty"),
    (CHAT, chat(repetition_penalty=0), 400, "repetition_penalty"),
    (CHAT, chat(seed=2**64), 400, "seed"),
    (CHAT, chat(stop=[""]), 400, "stop[0]"),
    (CHAT, chat(stop=["a"] * 17), 400, "stop"),
    (CHAT, chat(stop="x" * 300), 400, "stop"),
    (CHAT, chat(logit_bias={"x": 1}), 400, "logit_bias"),
    (CHAT, chat(logit_bias={"999999999": 1}), 400, "logit_bias"),
    (CHAT, chat(logit_bias={"5": 101}), 400, "logit_bias"),
    (CHAT, chat(stop_token_ids=[-1]), 400, "stop_token_ids[0]"),
    (CHAT, chat(allowed_token_ids=[10**7]), 400, "allowed_token_ids[0]"),
    (CHAT, chat(top_logprobs=2), 400, "top_logprobs"),
    (CHAT, chat(logprobs=True, top_logprobs=21), 400, "top_logprobs"),
    (CHAT, chat(stream="yes"), 400, "stream"),
    (CHAT, chat(stream_options={"include_usage": True}), 400, "stream_options"),
    (CHAT, chat(stream=True, stream_options={"x": 1}), 400, "stream_options.x"),
    (CHAT, chat(tools=[]), 400, "tools"),
    (CHAT, chat(tools=[{"type": "function"}]), 400, "tools[0].function"),
    (CHAT, chat(tools=[TOOL] * 129), 400, "tools"),
    (CHAT, chat(tools=[TOOL], tool_choice="f"), 400, "tool_choice"),
    (CHAT, chat(tool_choice="required"), 400, "tool_choice"),
    (CHAT, chat(functions=[{"name": "f"}]), 400, "functions"),
    (CHAT, chat(reasoning_effort="high"), 400, "reasoning_effort"),
    (CHAT, chat(reasoning_effort="utmost"), 400, "reasoning_effort"),
    (CHAT, chat(verbosity="low"), 400, "verbosity"),
    (CHAT, chat(chat_template="{{ 1 }}"), 400, "chat_template"),
    (CHAT, chat(chat_template_kwargs={"messages": []}), 400, "chat_template_kwargs"),
    (CHAT, chat(messages=[IMAGE]), 400, "messages[0].content[0]"),
    (CHAT, chat(response_format={"type": "xml"}), 400, "response_format.type"),
    (CHAT, chat(structured_outputs={"regex": "(a{900}){900}"}), 400, "structured_outputs.regex"),
    (CHAT, chat(structured_outputs={"x": 1}), 400, "structured_outputs.x"),
    (CHAT, chat(metadata={str(n): "a" for n in range(17)}), 400, "metadata"),
    (CHAT, chat(metadata={"a": "x" * 513}), 400, "metadata[...]"),
    (COMPLETIONS, completion(store=True), 400, "store"),
    (CHAT, chat(service_tier="scale"), 400, "service_tier"),
    (CHAT, chat(frobnicate=1), 400, "frobnicate"),
    (COMPLETIONS, completion(prompt=""), 400, "prompt"),
    (COMPLETIONS, completion(prompt=[]), 400, "prompt"),
    (COMPLETIONS, completion(prompt=[[]]), 400, "prompt[0]"),
    (COMPLETIONS, completion(prompt=["a", 1]), 400, "prompt[1]"),
    (COMPLETIONS, completion(prompt=[-1]), 400, "prompt"),
    (COMPLETIONS, completion(prompt=[10**9]), 400, "prompt"),
    (COMPLETIONS, completion(prompt=[True]), 400, "prompt[0]"),
    (COMPLETIONS, completion(prompt=["a"] * 65), 400, "prompt"),
    (COMPLETIONS, completion(prompt=5), 400, "prompt"),
    (COMPLETIONS, completion(max_tokens=0), 400, "max_tokens"),
    (COMPLETIONS, completion(prompt="a " * 2_000, echo=True, logprobs=0), 400, "echo"),
    (COMPLETIONS, completion(suffix="x"), 400, "suffix"),
    (COMPLETIONS, completion(best_of=2, n=3), 400, "best_of"),
    (COMPLETIONS, completion(best_of=2, stream=True), 400, "best_of"),
    (COMPLETIONS, completion(best_of=17), 400, "best_of"),
    (COMPLETIONS, completion(logprobs=6), 400, "logprobs"),
    (EMBEDDINGS, embedding(input=""), 400, "input"),
    (EMBEDDINGS, embedding(input=["a", ""]), 400, "input[1]"),
    (EMBEDDINGS, embedding(input=["a"] * 2049), 400, "input"),
    (EMBEDDINGS, embedding(input="word " * 2000), 400, "input"),
    (EMBEDDINGS, embedding(dimensions=10), 400, "dimensions"),
    (EMBEDDINGS, embedding(encoding_format="hex"), 400, "encoding_format"),
    (EMBEDDINGS, embedding(model=CHAT_MODEL), 400, "model"),
]


@pytest.mark.parametrize(("path", "body", "status", "param"), CASES)
def test_a_wrong_field_is_named(
    simulated: Platform, path: str, body: dict[str, Any], status: int, param: str | None
) -> None:
    with simulated.http() as client:
        response = client.post(path, json=body)
    assert response.status_code == status, response.text
    assert error_of(response)["param"] == param


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"\xff\xfe{}",
        b'{"model": "\xff"}',
        b'{"model": "a", "messages": [{"role": "user", "content": "\\ud800"}]}',
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b'{"model": NaN}',
        b"{} trailing",
    ],
    ids=lambda content: repr(content[:20]),
)
def test_a_malformed_body_is_a_400(simulated: Platform, content: bytes) -> None:
    with simulated.http() as client:
        for path in (CHAT, COMPLETIONS, EMBEDDINGS):
            response = client.post(
                path, content=content, headers={"Content-Type": "application/json"}
            )
            assert response.status_code == 400, (path, response.text)
            error_of(response)


def test_a_wrong_content_type_is_a_415(simulated: Platform) -> None:
    with simulated.http() as client:
        response = client.post(
            CHAT, content=json.dumps(chat()), headers={"Content-Type": "text/xml"}
        )
    assert response.status_code == 415
    error_of(response)


def test_an_oversized_body_is_a_413(simulated: Platform) -> None:
    with simulated.http() as client:
        headers = {"Content-Type": "application/json"}
        declared = client.post(CHAT, content=b"x" * (5 * 1024 * 1024), headers=headers)

        def parts() -> Any:
            for _ in range(80):
                yield b"x" * 65_536

        undeclared = client.post(CHAT, content=parts(), headers=headers)
    assert declared.status_code == undeclared.status_code == 413
    error_of(declared)


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Basic YTpi",
        "Bearer sk-proj-short",
        "Bearer sk-proj-" + "A" * 52,
        "Bearer ' OR 1=1 --",
        "Bearer sk-proj-" + "é" * 52,
        "Bearer " + "A" * 7000,
    ],
)
def test_a_wrong_key_is_a_401_on_every_endpoint(
    simulated: Platform, authorization: str | None
) -> None:
    headers = {} if authorization is None else {"Authorization": authorization.encode()}
    with simulated.http(key=None) as client:
        for method, path in (
            ("POST", CHAT),
            ("POST", COMPLETIONS),
            ("POST", EMBEDDINGS),
            ("GET", "/v1/models"),
            ("GET", f"/v1/models/{CHAT_MODEL}"),
        ):
            response = client.request(method, path, headers=headers, json=chat())
            assert response.status_code == 401, (path, response.text)
            error = error_of(response)
            assert error["code"] == "invalid_api_key"


def test_unknown_paths_and_methods_answer_in_the_error_shape(simulated: Platform) -> None:
    with simulated.http() as client:
        unknown = client.get("/v1/nothing/here")
        wrong_method = client.get("/v1/embeddings")
        no_model = client.get("/v1/models/nope")
        odd_host = client.post(CHAT, json=chat(), headers={"Host": "evil.example/v1/admin?x="})
    assert (unknown.status_code, error_of(unknown)["code"]) == (404, "unknown_url")
    assert (wrong_method.status_code, error_of(wrong_method)["code"]) == (405, "method_not_allowed")
    assert (no_model.status_code, error_of(no_model)["code"]) == (404, "model_not_found")
    # The Host header routes nothing on the token path (CVE-2026-49468).
    assert odd_host.status_code == 200


# Of objects further down, so that some pass and are looked at.
_NAMES = ("role", "content", "type", "text", "function", "name", "parameters", "json_schema",
          "schema", "json", "regex", "choice", "grammar", "pattern", "properties")  # fmt: skip
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=6) | st.sampled_from(_NAMES), inner, max_size=3)
    ),
    max_leaves=8,
)
_FIELDS = (
    "model", "messages", "prompt", "input", "n", "max_tokens", "temperature", "top_p", "stop",
    "seed", "stream", "stream_options", "logprobs", "top_logprobs", "logit_bias", "user",
    "metadata", "min_tokens", "bad_words", "allowed_token_ids", "stop_token_ids", "tools",
    "tool_choice", "response_format", "structured_outputs", "guided_json", "guided_regex",
    "guided_choice", "guided_grammar", "chat_template_kwargs", "documents", "reasoning_effort",
    "continue_final_message", "echo", "best_of", "suffix",
)  # fmt: skip


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    path=st.sampled_from([CHAT, COMPLETIONS, EMBEDDINGS]),
    changes=st.dictionaries(st.sampled_from(_FIELDS), _json, min_size=1, max_size=3),
)
def test_no_json_value_anywhere_makes_a_500(
    simulated: Platform, path: str, changes: dict[str, Any]
) -> None:
    base = {CHAT: chat, COMPLETIONS: completion, EMBEDDINGS: embedding}[path]()
    content = json.dumps({**base, **changes}).encode()
    with simulated.http() as client:
        response = client.post(path, content=content, headers={"Content-Type": "application/json"})
    assert response.status_code < 500, (changes, response.text)
    if response.status_code >= 400:
        error_of(response)
