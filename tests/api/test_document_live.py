"""Live answers are what the OpenAPI document says, whole, streamed, refused and over a socket."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from api.asgi import BARE_PATHS
from api.document.refused import REFUSED, reason_of
from tests.api.reference import (
    DOCUMENT,
    SHAPES,
    TOKEN_PATH,
    body_schema,
    check,
    check_answer,
    operation_of,
)
from tests.harness.platform import CHAT_MODEL, EMBEDDING_MODEL, Platform, wait_for

CHAT, COMPLETIONS, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
BATCHED = "/v1/files", "/v1/batches"
RUNS = [
    (path, operation)
    for method, path, operation in TOKEN_PATH
    if method == "POST" and "{" not in path and path not in BATCHED and "requestBody" in operation
]
STREAMED = [each for each in RUNS if "text/event-stream" in each[1]["responses"]["200"]["content"]]
ASK = [{"role": "user", "content": "What is the capital of France?"}]


def path_of(value: Any) -> str:
    return value if isinstance(value, str) else ""


def example_of(operation: dict[str, Any]) -> dict[str, Any]:
    return dict(operation["requestBody"]["content"]["application/json"]["example"])


@pytest.fixture(scope="module")
def client(simulated: Platform) -> Iterator[httpx.Client]:
    with simulated.http() as opened:
        yield opened


def ask(
    client: httpx.Client, method: str, path: str, told: str | None = None, **how: Any
) -> httpx.Response:
    """The answer, which is what the document says of ``path``, or of ``told`` in its place."""
    response = client.request(method, path, **how)
    check_answer(operation_of(method, told or path.partition("?")[0]), response)
    return response


@pytest.mark.parametrize(("path", "operation"), RUNS, ids=path_of)
def test_examples_work_and_are_answered_as_said(
    client: httpx.Client, path: str, operation: dict[str, Any]
) -> None:
    assert ask(client, "POST", path, json=example_of(operation)).status_code == 200


@pytest.mark.parametrize(("path", "operation"), STREAMED, ids=path_of)
def test_streams_have_the_events_that_are_said(
    client: httpx.Client, path: str, operation: dict[str, Any]
) -> None:
    body = example_of(operation) | {"stream": True}
    response = ask(client, "POST", path, json=body)
    assert response.headers["content-type"].startswith("text/event-stream")
    resumable = {"x-sluice-resumable": "true"}
    begun = ask(client, "POST", path, json=body, headers=resumable)
    again = f"/v1/streams/{begun.headers['x-request-id']}"
    assert ask(client, "GET", again, "/v1/streams/{request_id}").status_code == 200


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        (CHAT, {"logprobs": True, "top_logprobs": 2, "n": 2, "service_tier": "flex"}),
        (CHAT, {"store": True, "metadata": {"a": "b"}}),
        (COMPLETIONS, {"logprobs": 2, "echo": True, "n": 2, "service_tier": "auto"}),
        (COMPLETIONS, {"prompt": ["A", "B"], "max_tokens": 0, "echo": True}),
        (RESPONSES, {"top_logprobs": 2, "store": False, "instructions": "Be brief."}),
        (RESPONSES, {"max_output_tokens": 1, "metadata": {"a": "b"}, "truncation": "auto"}),
        ("/v1/embeddings", {"encoding_format": "base64"}),
        ("/v1/rerank", {"return_documents": False, "top_n": 1}),
        ("/v1/messages", {"stop_sequences": ["no"], "metadata": {"user_id": "u"}}),
        ("/v1/tokenize", {"return_token_strs": True}),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_answers_with_more_in_them_are_as_said(
    client: httpx.Client, path: str, fields: dict[str, Any]
) -> None:
    operation = operation_of("POST", path)
    body = example_of(operation) | fields
    check(body, body_schema(operation))
    ask(client, "POST", path, json=body)
    if (path, operation) in STREAMED:
        body |= {"stream": True}
        if path in (CHAT, COMPLETIONS):
            body |= {"stream_options": {"include_usage": True, "continuous_usage_stats": True}}
        ask(client, "POST", path, json=body)


def test_models_in_both_forms(client: httpx.Client) -> None:
    anthropic = {"anthropic-version": "2023-06-01"}
    one = "/v1/models/{model}"
    for headers in ({}, anthropic):
        ask(client, "GET", "/v1/models", headers=headers)
        assert (
            ask(client, "GET", f"/v1/models/{CHAT_MODEL}", one, headers=headers).status_code == 200
        )
    assert ask(client, "GET", "/v1/models/none", one).status_code == 404


def test_kept_answers(client: httpx.Client) -> None:
    made = client.post(CHAT, json={"model": CHAT_MODEL, "messages": ASK, "max_tokens": 2,
                                   "store": True, "metadata": {"a": "b"}}).json()  # fmt: skip
    told = f"{CHAT}/{{completion_id}}"
    at = f"{CHAT}/{made['id']}"
    assert ask(client, "GET", f"{CHAT}?limit=2&order=desc").json()["data"]
    ask(client, "GET", at, told)
    ask(client, "POST", at, told, json={"metadata": {"c": "d"}})
    assert ask(client, "GET", f"{at}/messages", f"{told}/messages").json()["data"]
    assert ask(client, "DELETE", at, told).json()["deleted"]
    assert ask(client, "GET", at, told).status_code == 404
    made = client.post(RESPONSES, json={"model": CHAT_MODEL, "input": "Hi"}).json()
    told = f"{RESPONSES}/{{response_id}}"
    at = f"{RESPONSES}/{made['id']}"
    ask(client, "GET", at, told)
    assert ask(client, "GET", f"{at}/input_items", f"{told}/input_items").json()["data"]
    assert ask(client, "POST", f"{at}/cancel", f"{told}/cancel").status_code == 400
    assert ask(client, "DELETE", at, told).json()["deleted"]


def test_files_and_batches(client: httpx.Client) -> None:
    line = {"custom_id": "a", "method": "POST", "url": CHAT,
            "body": {"model": CHAT_MODEL, "messages": ASK, "max_tokens": 2}}  # fmt: skip
    form = {"purpose": "batch", "expires_after[anchor]": "created_at"}
    form["expires_after[seconds]"] = "3600"
    files = {"file": ("a.jsonl", json.dumps(line).encode())}
    file = ask(client, "POST", "/v1/files", data=form, files=files).json()
    asked = {"input_file_id": file["id"], "endpoint": CHAT, "completion_window": "24h",
             "metadata": {"a": "b"}}  # fmt: skip
    check(asked, body_schema(operation_of("POST", "/v1/batches")))
    batch = ask(client, "POST", "/v1/batches", json=asked).json()
    at, told = f"/v1/batches/{batch['id']}", "/v1/batches/{batch_id}"
    wait_for(lambda: ask(client, "GET", at, told).json()["status"] == "completed", 60)
    assert ask(client, "POST", f"{at}/cancel", f"{told}/cancel").status_code == 409
    ask(client, "GET", "/v1/batches?limit=1")
    ask(client, "GET", "/v1/files?limit=1&order=asc")
    at, told = f"/v1/files/{file['id']}", "/v1/files/{file_id}"
    ask(client, "GET", at, told)
    ask(client, "GET", f"{at}/content", f"{told}/content")
    part = ask(client, "GET", f"{at}/content", f"{told}/content", headers={"range": "bytes=2-"})
    assert part.status_code == 206
    ask(client, "GET", f"{at}/content", f"{told}/content", headers={"range": "bytes=999999-"})
    assert ask(client, "DELETE", at, told).json()["deleted"]
    wrong = {"file": ("a.jsonl", b"no json")}
    file = client.post("/v1/files", data={"purpose": "batch"}, files=wrong).json()
    batch = ask(client, "POST", "/v1/batches", json=asked | {"input_file_id": file["id"]}).json()
    at, told = f"/v1/batches/{batch['id']}", "/v1/batches/{batch_id}"
    wait_for(lambda: ask(client, "GET", at, told).json()["status"] == "failed", 60)


def test_a_file_in_parts(client: httpx.Client) -> None:
    content = b'{"custom_id": "a"}\n'
    asked = {
        "filename": "a.jsonl", "purpose": "batch", "bytes": len(content), "mime_type": "text/plain",
    }  # fmt: skip
    made = ask(client, "POST", "/v1/uploads", json=asked).json()
    at, told = f"/v1/uploads/{made['id']}", "/v1/uploads/{upload_id}"
    form = {"data": ("a", content)}
    part = ask(client, "POST", f"{at}/parts", f"{told}/parts", files=form).json()
    complete = {"part_ids": [part["id"]]}
    ended = ask(client, "POST", f"{at}/complete", f"{told}/complete", json=complete)
    assert ended.json()["file"]["bytes"] == len(content)
    refused = ask(client, "POST", f"{at}/cancel", f"{told}/cancel")
    assert refused.json()["error"]["code"] == "upload_ended"


# --- What is refused --------------------------------------------------------------------------


@pytest.mark.parametrize("key", [None, "sk-proj-nobodys"], ids=["without", "unknown"])
def test_without_a_key_nothing_is_answered(simulated: Platform, key: str | None) -> None:
    with simulated.http(key) as client:
        for method, path, operation in TOKEN_PATH:
            if path == "/v1/stream":
                continue
            response = client.request(method, re.sub(r"\{\w+\}", "nothing", path), json={})
            assert response.status_code == 401, path
            check_answer(operation, response)


def test_what_nobody_made_is_not_found(client: httpx.Client) -> None:
    for method, path, operation in TOKEN_PATH:
        if "{" in path and not path.endswith("/parts"):
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            asked = re.sub(r"\{\w+\}", "nothing_0", path)
            response = client.request(method, asked, json=body.get("example"))
            assert response.status_code == 404, path
            check_answer(operation, response)


def beyond(schema: dict[str, Any]) -> Iterator[Any]:
    """Values that break one bound of a schema each, and nothing else of it."""
    for each in schema.get("anyOf", [schema]):
        kind = each.get("type")
        if kind in ("integer", "number"):
            if "minimum" in each:
                yield each["minimum"] - 1
            if "exclusiveMinimum" in each:
                yield each["exclusiveMinimum"]
            if "maximum" in each:
                yield each["maximum"] + 1
        elif kind == "string":
            if 0 < each.get("maxLength", 0) < 100_000:
                yield "a" * (each["maxLength"] + 1)
            if each.get("minLength"):
                yield ""
        elif kind == "array" and each.get("maxItems", 0) in range(1, 5_000):
            yield [a_valid(each["items"])] * (each["maxItems"] + 1)
        elif kind == "object" and "additionalProperties" in each and "maxProperties" in each:
            inner = a_valid(each["additionalProperties"])
            yield {str(place): inner for place in range(each["maxProperties"] + 1)}
            for wrong in beyond(each["additionalProperties"]):
                yield {"1": wrong}
        if "enum" in each:
            yield "nothing of the kind"


def a_valid(schema: dict[str, Any]) -> Any:
    from api.document.examples import example_of

    return example_of(schema, SHAPES)


BODIES = [
    (method, path, operation)
    for method, path, operation in TOKEN_PATH
    if "application/json" in operation.get("requestBody", {}).get("content", {})
    and "{" not in path
    and path not in BARE_PATHS  # other names of these
]


_FUNCTION = {"type": "function", "name": "f"}
_PAIR = {"text_1": None, "text_2": None, "queries": "Q", "documents": "D"}
# Without these a field is read by nobody, or is one too many.
NEEDED: dict[tuple[str, str], dict[str, Any]] = {
    **{(path, "tool_choice"): {"tools": [_FUNCTION]}
       for path in (RESPONSES, f"{RESPONSES}/input_tokens")},
    **{(path, name): {**_PAIR, **more}
       for path in ("/v1/score",)
       for name, more in (("queries", {}), ("documents", {}), ("items", {"documents": None}),
                          ("data_1", {"queries": None, "documents": None, "data_2": "D"}),
                          ("data_2", {"queries": None, "documents": None, "data_1": "D"}))},
}  # fmt: skip


@pytest.mark.parametrize(("method", "path", "operation"), BODIES, ids=path_of)
def test_every_bound_of_the_document_is_held(
    client: httpx.Client, method: str, path: str, operation: dict[str, Any]
) -> None:
    """What is beyond it is refused by a 400 that names the field, on its way or beside it."""
    content = operation["requestBody"]["content"]["application/json"]
    shape = SHAPES[content["schema"]["$ref"].rpartition("/")[2]]
    asked = tried = 0
    for name, schema in shape["properties"].items():
        if name in ("model", "stop") and path.startswith("/v1/messages"):
            continue
        for wrong in beyond(schema):
            body = content["example"] | NEEDED.get((path, name), {}) | {name: wrong}
            tried += 1
            with pytest.raises(Exception, match=r".*"):
                check(body, content["schema"])
            response = client.request(method, path, json=body)
            where = (name, str(wrong)[:60], response.text[:200])
            assert response.status_code in (400, 404), where
            asked += name in response.text
            check_answer(operation, response)
        for missing in (None, 7, "text", [], {}, True):
            response = client.request(method, path, json=content["example"] | {name: missing})
            assert response.status_code < 500, (name, missing, response.text[:200])
            check_answer(operation, response)
    assert asked >= tried * 0.9
    unknown = client.request(method, path, json=content["example"] | {"no_such_field": 1})
    assert unknown.status_code == 400 and "no_such_field" in unknown.text
    for name in shape.get("required", ()):
        less = {key: value for key, value in content["example"].items() if key != name}
        response = client.request(method, path, json=less)
        assert response.status_code == 400 and name in response.text
        check_answer(operation, response)


def refused_fields() -> Iterator[tuple[str, str, str]]:
    """Path, field and reason of each field that the document says is refused by name."""
    for _, path, operation in BODIES:
        shape = SHAPES[body_schema(operation)["$ref"].rpartition("/")[2]]
        for name, schema in shape["properties"].items():
            told = schema.get("description", "")
            if told.startswith("Refused by name: "):
                yield path, name, told


def test_every_field_that_is_said_to_be_refused_is(client: httpx.Client) -> None:
    seen = set()
    for path, name, told in refused_fields():
        seen.add(told)
        example = example_of(operation_of("POST", path))
        answers = [
            client.post(path, json=example | {name: value})
            for value in ("text", True, [{"type": "text"}], {"type": "text"})
        ]
        refusals = [each for each in answers if "is not supported by this server" in each.text]
        assert refusals, (path, name, answers[0].text)
        assert all(each.status_code == 400 for each in answers)
        check_answer(operation_of("POST", path), refusals[0])
    of_bodies = {
        f"Refused by name: {reason}."
        for form, fields in REFUSED.items()
        if form.__name__.endswith("Request")
        for name, reason in fields.items()
        if reason_of(form, name)
    }
    assert of_bodies <= seen


# --- WebSocket --------------------------------------------------------------------------------


def test_frames_are_as_said(simulated: Platform) -> None:
    told = operation_of("GET", "/v1/stream")["responses"]["101"]
    body = {"model": CHAT_MODEL, "messages": ASK, "max_tokens": 4}
    asked = [
        {"type": "request", "id": "a", "endpoint": CHAT, "body": body | {"stream": True},
         "headers": {"x-sluice-resumable": "true"}},
        {"type": "request", "id": "b", "endpoint": CHAT, "body": body},
        {"type": "request", "id": "c", "endpoint": "/v1/embeddings",
         "body": {"model": EMBEDDING_MODEL, "input": ""}},
        {"type": "cancel", "id": "d"},
        {"type": "resume", "id": "e", "request_id": "0" * 24},
    ]  # fmt: skip
    url = f"ws://127.0.0.1:{simulated.port}/v1/stream"
    with connect(url, additional_headers={"Authorization": f"Bearer {simulated.key}"}) as socket:
        for frame in asked:
            check(frame, told["x-client-frames"])
            socket.send(json.dumps(frame))
        socket.send("no json")
        kinds: dict[str, set[str]] = {}
        done = set()
        while done != {"a", "b", "c", "e"}:
            frame = json.loads(socket.recv(timeout=20))
            check(frame, told["x-server-frames"])
            kinds.setdefault(frame.get("id", ""), set()).add(frame["type"])
            if frame["type"] == "done":
                done.add(frame["id"])
            if frame["type"] == "chunk":
                check(frame["data"], {"$ref": "#/components/schemas/ChatCompletionChunk"})
    assert kinds["a"] == {"chunk", "done"} and kinds["b"] == {"response", "done"}
    assert kinds["c"] == {"error", "done"} and kinds["e"] == {"error", "done"}


def test_the_document_is_where_it_says(client: httpx.Client) -> None:
    assert client.get("/v1/openapi.json").json() == DOCUMENT
    assert client.get("/docs/api/").status_code == 200
