"""OpenAI's official client, method by method: what is served works, what is refused says why."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import openai
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from api.document.conformance import sdk
from api.document.conformance.page import method_verdicts, parameter_verdicts
from api.document.conformance.verdicts import REFUSED, SERVED, verdict_of
from api.document.examples import example_of
from tests.api.reference import SHAPES, body_schema, operation_of
from tests.harness.platform import CHAT_MODEL, EMBEDDING_MODEL, Platform

VERDICTS = method_verdicts()
ASK: Any = [{"role": "user", "content": "Hi"}]
CHAT = "/v1/chat/completions"
_LINE = {"custom_id": "a", "method": "POST", "url": CHAT,
         "body": {"model": CHAT_MODEL, "messages": ASK, "max_tokens": 2}}  # fmt: skip
_CONTENT = json.dumps(_LINE).encode()


def named(word: str, *, admin: bool = False) -> dict[str, sdk.SdkMethod]:
    return {
        method.name: method
        for method, verdict in VERDICTS.items()
        if verdict.word == word and method.name.startswith("admin.") == admin
    }


@pytest.fixture(scope="module")
def client(simulated: Platform) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"{simulated.url}/v1", api_key=simulated.key, max_retries=0, timeout=30
    ) as opened:
        yield opened


# --- Served -----------------------------------------------------------------------------------


def _kept_chat(client: openai.OpenAI) -> str:
    made = client.chat.completions.create(
        model=CHAT_MODEL, messages=ASK, max_tokens=2, store=True, metadata={"a": "b"}
    )
    return made.id


def _kept_response(client: openai.OpenAI, **fields: Any) -> str:
    return client.responses.create(model=CHAT_MODEL, input="Hi", max_output_tokens=2, **fields).id


def _file(client: openai.OpenAI) -> Any:
    return client.files.create(file=("a.jsonl", io.BytesIO(_CONTENT)), purpose="batch")


def _batch(client: openai.OpenAI) -> Any:
    return client.batches.create(
        input_file_id=_file(client).id, endpoint=CHAT, completion_window="24h"
    )


# An answer of the simulated engine is always as long as it may be, which the client takes for one
# that cannot be parsed, and says so when it has read all of it.
def _stream_of_chat(chat: Any) -> bool:
    with chat.completions.stream(model=CHAT_MODEL, messages=ASK, max_tokens=2) as stream:
        kinds = {event.type for event in stream}
        with pytest.raises(openai.LengthFinishReasonError):
            stream.get_final_completion()
    return {"chunk", "content.delta"} <= kinds


def _parsed_chat(chat: Any) -> Any:
    with pytest.raises(openai.LengthFinishReasonError) as caught:
        chat.completions.parse(model=CHAT_MODEL, messages=ASK, max_tokens=2)
    return caught.value.completion.choices[0].message.content


def _stream_of_response(client: openai.OpenAI) -> bool:
    with client.responses.stream(model=CHAT_MODEL, input="Hi", max_output_tokens=2) as stream:
        kinds = [event.type for event in stream]
    return kinds[0] == "response.created" and kinds[-1] == "response.incomplete"


def _upload(client: openai.OpenAI) -> Any:
    return client.uploads.create(
        filename="a.jsonl", purpose="batch", bytes=len(_CONTENT), mime_type="application/jsonl"
    )


def _completed(client: openai.OpenAI) -> Any:
    upload = _upload(client)
    part = client.uploads.parts.create(upload.id, data=_CONTENT)
    return client.uploads.complete(upload.id, part_ids=[part.id])


def _cancelled(client: openai.OpenAI) -> bool:
    """A response in the foreground cannot be: as at OpenAI it is refused in these words."""
    with pytest.raises(openai.BadRequestError, match="Cannot cancel a synchronous response"):
        client.responses.cancel(_kept_response(client))
    return True


def _cancelled_batch(client: openai.OpenAI) -> bool:
    batch = _batch(client)
    try:
        return client.batches.cancel(batch.id).status in ("cancelling", "cancelled")
    except openai.ConflictError as error:  # it was quicker
        return error.code == "batch_ended"


def _chat_calls(of: Callable[[openai.OpenAI], Any]) -> dict[str, Callable[[openai.OpenAI], Any]]:
    return {
        "create": lambda c: of(c).completions.create(
            model=CHAT_MODEL, messages=ASK, max_tokens=2
        ).choices[0].message.content,
        "parse": lambda c: _parsed_chat(of(c)),
        "stream": lambda c: _stream_of_chat(of(c)),
        "list": lambda c: _kept_chat(c) and of(c).completions.list(limit=1).data,
        "retrieve": lambda c: of(c).completions.retrieve(_kept_chat(c)).id,
        "update": lambda c: of(c).completions.update(
            _kept_chat(c), metadata={"c": "d"}
        ).metadata == {"c": "d"},
        "delete": lambda c: of(c).completions.delete(_kept_chat(c)).deleted,
        "messages.list": lambda c: of(c).completions.messages.list(_kept_chat(c)).data,
    }  # fmt: skip


def _response_calls(
    of: Callable[[openai.OpenAI], Any],
) -> dict[str, Callable[[openai.OpenAI], Any]]:
    return {
        "create": lambda c: of(c).create(model=CHAT_MODEL, input="Hi", max_output_tokens=2).output,
        "retrieve": lambda c: of(c).retrieve(_kept_response(c)).id,
        "delete": lambda c: of(c).delete(_kept_response(c)) is None,
        "cancel": _cancelled,
        "input_items.list": lambda c: of(c).input_items.list(_kept_response(c)).data,
        "input_tokens.count": lambda c: of(c).input_tokens.count(
            model=CHAT_MODEL, input="Hi"
        ).input_tokens,
    }  # fmt: skip


CALLS: dict[str, Callable[[openai.OpenAI], Any]] = {
    **{f"chat.completions.{n}": call for n, call in _chat_calls(lambda c: c.chat).items()},
    **{f"beta.chat.completions.{n}": call
       for n, call in _chat_calls(lambda c: c.beta.chat).items()},
    **{f"responses.{n}": call for n, call in _response_calls(lambda c: c.responses).items()},
    **{f"beta.responses.{n}": call
       for n, call in _response_calls(lambda c: c.beta.responses).items()},
    "responses.parse": lambda c: c.responses.parse(
        model=CHAT_MODEL, input="Hi", max_output_tokens=2
    ).output,
    "responses.stream": _stream_of_response,
    "completions.create": lambda c: c.completions.create(
        model=CHAT_MODEL, prompt="A", max_tokens=2
    ).choices[0].text,
    "embeddings.create": lambda c: c.embeddings.create(
        model=EMBEDDING_MODEL, input="A"
    ).data[0].embedding,
    "models.list": lambda c: c.models.list().data,
    "models.retrieve": lambda c: c.models.retrieve(CHAT_MODEL).id,
    "files.create": lambda c: _file(c).id,
    "files.list": lambda c: _file(c) and c.files.list(limit=1).data,
    "files.retrieve": lambda c: c.files.retrieve(_file(c).id).bytes,
    "files.content": lambda c: json.loads(c.files.content(_file(c).id).text) == _LINE,
    "files.retrieve_content": lambda c: json.loads(
        c.files.with_raw_response.retrieve_content(_file(c).id).content
    ) == _LINE,
    "files.delete": lambda c: c.files.delete(_file(c).id).deleted,
    "files.wait_for_processing": lambda c: c.files.wait_for_processing(_file(c).id).id,
    "uploads.create": lambda c: _upload(c).status == "pending",
    "uploads.cancel": lambda c: c.uploads.cancel(_upload(c).id).status == "cancelled",
    "uploads.complete": lambda c: _completed(c).file.bytes == len(_CONTENT),
    "uploads.parts.create": lambda c: c.uploads.parts.create(_upload(c).id, data=b"a").id,
    "uploads.upload_file_chunked": lambda c: c.uploads.upload_file_chunked(
        file=_CONTENT, filename="a.jsonl", bytes=len(_CONTENT),
        mime_type="application/jsonl", purpose="batch",
    ).file.id,
    "batches.create": lambda c: _batch(c).id,
    "batches.list": lambda c: _batch(c) and c.batches.list(limit=1).data,
    "batches.retrieve": lambda c: c.batches.retrieve(_batch(c).id).id,
    "batches.cancel": _cancelled_batch,
}  # fmt: skip


def test_every_method_that_is_served_is_called_here() -> None:
    assert len(VERDICTS) > 400
    assert set(CALLS) == set(named(SERVED))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", sorted(CALLS))
def test_what_is_served_works(client: openai.OpenAI, name: str) -> None:
    assert CALLS[name](client)


# --- Refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize("admin", [False, True], ids=["", "admin"])
def test_what_is_refused_says_why(simulated: Platform, admin: bool) -> None:
    key = simulated.demo["SLUICE_ADMIN_KEY"] if admin else simulated.key
    tried = 0
    with simulated.http(key) as client:
        for method, verdict in VERDICTS.items():
            if verdict.word != REFUSED or not method.path:
                continue
            if method.name.startswith("admin.") != admin:
                continue
            asked = re.sub(r"\{\w+\}", "nothing_0", method.path)
            answer = refusal_of(client, method.method, asked)
            assert answer["code"] == "unsupported_endpoint", (method.name, answer)
            assert verdict.note.replace("`", "'") in answer["message"]
            tried += 1
    assert tried > 30


def refusal_of(client: httpx.Client, method: str, path: str) -> dict[str, Any]:
    response = client.request(method, path, json=None if method == "GET" else {})
    assert response.status_code == 404, (path, response.text[:200])
    error: dict[str, Any] = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


def test_the_official_client_shows_the_reason(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="policy screens its requests") as caught:
        client.moderations.create(input="Hi")
    assert caught.value.code == "unsupported_endpoint"
    with pytest.raises(openai.NotFoundError, match="read and write text alone"):
        client.images.generate(prompt="A cat")
    with pytest.raises(openai.NotFoundError, match="taken away by the platform's staff"):
        client.models.delete(CHAT_MODEL)


def test_sockets_on_other_paths_are_refused(simulated: Platform) -> None:
    names = [name for name in named(REFUSED) if name.endswith("connect")]
    assert {"realtime.connect", "responses.connect"} <= set(names)
    headers = {"Authorization": f"Bearer {simulated.key}"}
    for path in ("realtime", "responses", "live"):
        with pytest.raises(InvalidStatus) as caught:
            connect(f"ws://127.0.0.1:{simulated.port}/v1/{path}", additional_headers=headers)
        assert caught.value.response.status_code == 403


def test_what_nobody_knows_is_an_error_of_its_own(simulated: Platform) -> None:
    with simulated.http() as client:
        assert refusal_of(client, "GET", "/v1/nothing")["code"] == "unknown_url"
    with pytest.raises(LookupError):
        verdict_of(sdk.SdkMethod("nothing.create", "POST", "/v1/nothing"), {})


# --- Parameters -------------------------------------------------------------------------------

# Values that work on the demo's models, where the shortest one that the schema allows does not.
WORKING: dict[str, Any] = {
    "background": False,
    "include": ["message.output_text.logprobs"],
    "input": "Hi",
    "logit_bias": {"5": 1},
    "max_tokens": 2,
    "messages": ASK,
    "model": CHAT_MODEL,
    "previous_response_id": None,
    "reasoning_effort": "none",
    "response_format": {"type": "text"},
    "stream_options": {"include_usage": True},
    "tool_choice": "none",
    "tools": [{"type": "function", "function": {"name": "f"}}],
}
BESIDE = {
    "stream_options": {"stream": True},
    "top_logprobs": {"logprobs": True},
    "tools": {"tool_choice": "none"},
}


@pytest.mark.parametrize("path", sdk.PARAMETERS)
def test_every_parameter_is_accepted_or_refused_by_name(simulated: Platform, path: str) -> None:
    operation = operation_of("POST", path)
    example = operation["requestBody"]["content"]["application/json"]["example"]
    shape = SHAPES[body_schema(operation)["$ref"].rpartition("/")[2]]
    with simulated.http() as client:
        for name, verdict in parameter_verdicts(path).items():
            if verdict.word == REFUSED:
                answer = client.post(path, json=example | {name: {"type": "text"}}).json()
                assert name in answer["error"]["message"], (name, answer)
                assert answer["error"]["code"] in ("unsupported_parameter", "unknown_parameter",
                                                   "invalid_type"), name  # fmt: skip
                continue
            value = working_value(path, name, shape["properties"][name])
            body = example | beside(path, name) | {name: value}
            response = client.post(path, json=body)
            assert response.status_code == 200, (name, value, response.text[:300])


def working_value(path: str, name: str, schema: dict[str, Any]) -> Any:
    if path == "/v1/embeddings" and name in ("model", "dimensions"):
        return {"model": EMBEDDING_MODEL, "dimensions": 384}[name]
    if path == "/v1/responses" and name == "tools":
        return [{"type": "function", "name": "f"}]
    if path == "/v1/responses" and name == "stream_options":
        return {"include_obfuscation": False}
    return WORKING[name] if name in WORKING else example_of(schema, SHAPES)


def beside(path: str, name: str) -> dict[str, Any]:
    return {} if path == "/v1/responses" and name == "top_logprobs" else BESIDE.get(name, {})
